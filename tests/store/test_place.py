"""A store whose file is taken away takes nothing more: what it would take could be found nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.errors import StoreUnavailable
from tests.store.world import World, alert


async def test_a_deleted_file_is_noticed_by_the_next_delivery(file_world: World, tmp_path: Path) -> None:
    await file_world.deliver(alert("a"))
    assert file_world.store.fatal is None
    (tmp_path / "store.db").unlink()
    with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
        await file_world.deliver(alert("b"))
    assert file_world.store.fatal is not None


async def test_a_replaced_file_is_noticed(file_world: World, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
        await file_world.deliver(alert("b"))
