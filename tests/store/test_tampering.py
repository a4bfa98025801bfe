"""Whoever changes the file behind the daemon's back is found out, by id."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from remediator.clock import DrivenClock
from remediator.model import DAY, AuditEvent, Millis, Status
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.commit()
    connection.close()


@pytest.fixture
async def sealed(file_world: World) -> World:
    """Deliveries with the ids 1 and 5, events with 2, 3 and 4; two seals."""
    await file_world.deliver(alert("a"))
    for number in range(2):
        await file_world.store.record((AuditEvent(kind="audit.read", actor=str(number), policy="p"),))
    await file_world.store.seal()
    await file_world.store.record((AuditEvent(kind="audit.read", actor="2"),))
    await file_world.deliver(alert("b"))
    await file_world.store.seal()
    return file_world


@pytest.mark.parametrize(
    ("statement", "missing", "changed", "broken"),
    [
        ("UPDATE audit_event SET body = replace(body, 'read', 'r3ad') WHERE id = 3", "", "audit_event:3", ""),
        ("UPDATE audit_event SET policy = 'innocent' WHERE id = 2", "", "audit_event:2", ""),
        ("UPDATE audit_event SET at = at - 1 WHERE id = 4", "", "audit_event:4", ""),
        ("UPDATE alert_event SET body = body || ' ' WHERE id = 1", "", "alert_event:1", ""),
        ("UPDATE alert_event SET sender = 'other' WHERE id = 5", "", "alert_event:5", ""),
        ("UPDATE audit_event SET body = 7 WHERE id = 3", "", "audit_event:3", ""),
        ("UPDATE audit_event SET alert = 'x' WHERE id = 3", "", "audit_event:3", ""),
        ("UPDATE audit_seal SET items = 'x' WHERE id = 2", "", "audit_event:4 alert_event:5", "2"),
        ("UPDATE audit_seal SET upto = 'x' WHERE id = 2", "", "", "2"),
        ("DELETE FROM audit_event WHERE id = 3", "audit_event:3", "", ""),
        ("DELETE FROM alert_event WHERE id = 5", "alert_event:5", "", ""),
        ("INSERT INTO audit_event SELECT 0, at, kind, alert, run, policy, target, body FROM audit_event "
         "WHERE id = 2", "", "audit_event:0", ""),
        ("INSERT INTO audit_event SELECT -7, at, kind, alert, run, policy, target, body FROM audit_event "
         "WHERE id = 2", "", "audit_event:-7", ""),
        ("DELETE FROM audit_seal WHERE id = 1", "", "", "2"),
        ("UPDATE audit_seal SET at = at + 1 WHERE id = 1", "", "", "1"),
        ("UPDATE audit_seal SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE id = 1", "", "", "1 2"),
    ],
)  # fmt: skip
async def test_verify_names_what_was_done(
    sealed: World, tmp_path: Path, statement: str, missing: str, changed: str, broken: str
) -> None:
    tamper(tmp_path / "store.db", statement)
    report = await sealed.store.verify()
    assert " ".join(report.missing) == missing
    if "DELETE FROM audit_seal" in statement:
        assert "audit_event:2" in report.changed  # no seal knows it any more
    else:
        assert " ".join(report.changed) == changed
    assert " ".join(map(str, report.broken)) == broken
    assert not report.whole


async def test_a_cut_tail_is_found_only_by_a_head_that_was_noted(sealed: World, tmp_path: Path) -> None:
    head = await sealed.store.seal()
    tamper(
        tmp_path / "store.db",
        "DELETE FROM audit_seal WHERE id = 2",
        "DELETE FROM audit_event WHERE id > 3",
        "DELETE FROM alert_event WHERE id > 3",
    )
    assert (await sealed.store.verify()).whole
    report = await sealed.store.verify(head)
    assert not report.head_found
    assert not report.whole


async def test_a_deletion_does_not_pass_for_pruning(file_world: World, tmp_path: Path) -> None:
    for number in range(4):
        await file_world.store.record((AuditEvent(kind="audit.read", actor=str(number)),))
        file_world.later(DAY)
    await file_world.store.seal()
    await file_world.store.prune({"audit_event": Millis(2 * DAY)})
    await file_world.store.seal()
    assert (await file_world.store.verify()).whole
    tamper(tmp_path / "store.db", "DELETE FROM audit_event WHERE id = 4")
    assert (await file_world.store.verify()).missing == ("audit_event:4",)


async def test_without_its_tombstone_what_was_pruned_is_missing(file_world: World, tmp_path: Path) -> None:
    await file_world.deliver(alert("a"), alert("a", Status.RESOLVED))
    for number in range(2):
        await file_world.store.record((AuditEvent(kind="audit.read", actor=str(number)),))
    file_world.later(DAY)
    await file_world.deliver(alert("b", at=file_world.now))
    await file_world.store.seal()
    await file_world.store.prune({"audit_event": Millis(60_000)})
    await file_world.store.seal()
    tamper(tmp_path / "store.db", "DELETE FROM audit_event WHERE kind = 'audit.pruned'")
    assert len((await file_world.store.verify()).missing) == 3


class TestKey:
    """A chain with a key cannot be made again by whoever can write to the file."""

    async def world(self, tmp_path: Path, key: bytes | None) -> World:
        store = open_store(
            f"sqlite://{tmp_path}/store.db", DrivenClock(START), receivers={"lines": Lines()}, seal_key=key
        )
        await store.open()
        return World(store, DrivenClock(START), lambda: None)

    async def test_it_verifies_with_its_key_only(self, tmp_path: Path) -> None:
        world = await self.world(tmp_path, b"right")
        await world.store.record((AuditEvent(kind="audit.read"),))
        await world.store.seal()
        assert (await world.store.verify()).whole
        await world.store.close()
        for key in (b"wrong", None):
            other = await self.world(tmp_path, key)
            assert (await other.store.verify()).broken == (1,)
            await other.store.close()

    async def test_a_chain_without_a_key_is_vouched_for_once_there_is_one(self, tmp_path: Path) -> None:
        world = await self.world(tmp_path, None)
        await world.store.record((AuditEvent(kind="audit.read"),))
        await world.store.seal()
        await world.store.close()
        world = await self.world(tmp_path, b"new")
        assert (await world.store.verify()).broken == (1,)  # anyone could have made it
        await world.store.seal()
        assert (await world.store.verify()).whole
        await world.store.close()

    async def test_it_does_not_lose_its_key_again(self, tmp_path: Path) -> None:
        world = await self.world(tmp_path, b"key")
        await world.store.record((AuditEvent(kind="audit.read"),))
        await world.store.seal()
        await world.store.close()
        world = await self.world(tmp_path, None)
        await world.store.record((AuditEvent(kind="forged"),))
        await world.store.seal()
        await world.store.close()
        world = await self.world(tmp_path, b"key")
        assert (await world.store.verify()).broken == (2,)
        await world.store.close()
