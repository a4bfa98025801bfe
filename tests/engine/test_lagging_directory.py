"""A replica whose policy files lag behind does not make them active again, not even by a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.engine.policies import Policies
from tests.engine.world import POLICY, Rig

NEWER = POLICY + "description: newer\n"
NEWEST = POLICY + "description: newest\n"


def directory(path: Path, text: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "queue.yaml").write_text(text)
    return path


def started(r: Rig, name: str, files: Path) -> Policies:
    """A process of the replica of that name."""
    return Policies(r.store, r.known, r.compile, files, replica=name)


async def active(r: Rig) -> str:
    found = await r.store.active_revision()
    assert found is not None
    return (await r.store.revision(found)).files["queue.yaml"]


@pytest.mark.parametrize("met", [True, False], ids=["restarted", "never seen before"])
async def test_a_lagging_replica_does_not_flip_the_set_back(tmp_path: Path, met: bool) -> None:
    async with Rig() as r:
        one, two = directory(tmp_path / "one", POLICY), directory(tmp_path / "two", POLICY)
        ahead = started(r, "one", one)
        await ahead.start()
        if met:
            await started(r, "two", two).start()
        directory(one, NEWER)
        assert await ahead.reload()
        for _ in range(2):
            lagging = started(r, "two", two)
            await lagging.start()
            assert await active(r) == NEWER
            assert lagging.hash == ahead.hash  # it works with the active set
            assert "stays active" in lagging.fault
            assert lagging.usable
        directory(two, NEWER)
        await lagging.reload()
        assert lagging.fault == ""


async def test_a_directory_that_was_changed_while_its_replica_was_away_is_a_proposal(tmp_path: Path) -> None:
    async with Rig() as r:
        files = directory(tmp_path / "one", POLICY)
        first = started(r, "one", files)
        await first.start()
        directory(files, NEWER)
        await first.reload()
        directory(files, POLICY)  # back to what was active before: wanted, for it changed since
        await started(r, "one", files).start()
        assert await active(r) == POLICY


async def test_a_new_replica_proposes_what_was_never_active(tmp_path: Path) -> None:
    async with Rig() as r:
        await started(r, "one", directory(tmp_path / "one", NEWER)).start()
        await started(r, "two", directory(tmp_path / "two", NEWEST)).start()
        assert await active(r) == NEWEST


async def test_to_go_back_is_to_change_the_directory(tmp_path: Path) -> None:
    async with Rig() as r:
        one, two = directory(tmp_path / "one", POLICY), directory(tmp_path / "two", POLICY)
        ahead, other = started(r, "one", one), started(r, "two", two)
        await ahead.start()
        await other.start()
        directory(one, NEWER)
        await ahead.reload()
        directory(two, NEWER)
        await other.reload()
        directory(two, POLICY)
        await other.reload()
        assert await active(r) == POLICY
        await ahead.reload()
        assert await active(r) == POLICY
