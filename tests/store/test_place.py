"""A store whose file is taken away takes nothing more: what it would take could be found nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from remediator.contracts import Opening
from remediator.errors import StoreUnavailable
from remediator.model import Alert, Instant
from tests.store.world import World, alert, delivery


async def test_a_deleted_file_is_noticed_by_the_next_delivery(file_world: World, tmp_path: Path) -> None:
    await file_world.deliver(alert("a"))
    assert file_world.store.fatal is None
    (tmp_path / "store.db").unlink()
    with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
        await file_world.deliver(alert("b"))
    assert file_world.store.fatal is not None


async def test_a_file_that_goes_while_a_delivery_is_written_is_noticed_before_the_answer(
    file_world: World, tmp_path: Path
) -> None:
    def matching(one: Alert, now: Instant) -> Sequence[Opening]:
        (tmp_path / "store.db").unlink(missing_ok=True)
        return ()

    with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
        await file_world.store.accept(delivery((alert("a"),), file_world.now), matching)


async def test_a_replaced_file_is_noticed(file_world: World, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
        await file_world.deliver(alert("b"))
