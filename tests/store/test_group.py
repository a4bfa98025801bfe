"""Group commit: one bad call spoils no other, and a caller that gave up was not written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from remediator.clock import DrivenClock
from remediator.contracts import Held, Opening, Receipt
from remediator.errors import Conflict, LeaseLost, NotFound, PayloadError, StoreUnavailable
from remediator.model import Alert, AuditEvent, Control, ControlKind, Instant, Outcome, Run, RunId
from remediator.store import open_store
from remediator.store.limits import Limits
from remediator.store.sqlite.file import connect
from remediator.store.sqlite.tx import Spoilt, SqliteTx
from remediator.store.upgrade import bring_up_to_date
from tests.store.world import START, Lines, World, alert, delivery, nothing, opening


def slow(seconds: float):  # type: ignore[no-untyped-def]
    """A match that keeps the writer busy, so that what comes meanwhile is one group."""

    def match(one: Alert, now: Instant) -> Sequence[Opening]:
        time.sleep(seconds)
        return ()

    return match


async def busy(world: World, seconds: float = 0.1) -> asyncio.Task[object]:
    task: asyncio.Task[object] = asyncio.create_task(
        world.store.accept(delivery((alert("slow"),), world.now), slow(seconds))  # type: ignore[arg-type]
    )
    await asyncio.sleep(0.02)
    return task


def broken(one: Alert, now: Instant) -> Sequence[Opening]:
    raise ZeroDivisionError("a fault in matching")


def opens(one: Alert, now: Instant) -> Sequence[Opening]:
    return (opening(target=one.fingerprint),)


async def test_one_bad_delivery_spoils_no_other(file_world: World) -> None:
    store, now = file_world.store, file_world.now
    holding = await busy(file_world)
    answers = await asyncio.gather(
        store.accept(delivery((alert("a"),), now), opens),
        store.accept(delivery((alert("b"), alert("c", at=2**70)), now), opens),
        store.accept(delivery((alert("d"),), now), broken),
        store.accept(delivery((alert("e"),), now), opens),
        store.run(RunId(99)),
        store.message_sent(99, AuditEvent(kind="message.sent")),
        store.record((AuditEvent(kind="audit.read"),)),
        return_exceptions=True,
    )
    await holding
    assert [type(one) for one in answers[1:3]] == [PayloadError, ZeroDivisionError]
    assert isinstance(answers[4], NotFound)
    assert isinstance(answers[5], NotFound)
    assert answers[6] is None
    found = {one.alert.fingerprint for one in await store.find_episodes()}
    assert found == {"slow", "a", "e"}
    assert {run.target for run in await store.find_runs()} == {"a", "e"}
    assert sorted(await file_world.kinds()) == sorted(
        ["alert.accepted"] * 3 + ["run.created"] * 2 + ["audit.read"]
    )
    again = await store.accept(delivery((alert("b"), alert("a")), now), opens)
    assert (again.accepted, again.repeated) == (1, 1)  # what was undone is new, what was written is known


async def test_one_lost_lease_spoils_no_other_move(file_world: World) -> None:
    one, two = await file_world.start("a"), await file_world.start("b")
    await file_world.end(one)
    holding = await busy(file_world)
    lost, moved = await asyncio.gather(file_world.end(one), file_world.end(two), return_exceptions=True)
    await holding
    assert isinstance(lost, LeaseLost)
    assert moved == await file_world.store.run(two.id)


async def test_the_same_new_alert_in_two_deliveries_of_one_group_is_one_episode(file_world: World) -> None:
    holding = await busy(file_world)
    receipts = await asyncio.gather(
        *(file_world.store.accept(delivery((alert("a"),), file_world.now), opens) for _ in range(5))
    )
    await holding
    assert sorted(receipt.accepted for receipt in receipts) == [0, 0, 0, 0, 1]
    assert len(await file_world.store.find_runs()) == 1


async def test_a_repeat_is_not_answered_before_the_alert_is_committed(file_world: World) -> None:
    def match(one: Alert, now: Instant) -> Sequence[Opening]:
        if one.fingerprint == "second":
            time.sleep(0.1)
        return ()

    store, now = file_world.store, file_world.now
    first = asyncio.create_task(store.accept(delivery((alert("a"), alert("second")), now), match))
    await asyncio.sleep(0.02)  # "a" is taken, not committed
    again = await store.accept(delivery((alert("a"),), now), nothing)
    assert first.done()
    assert again.repeated == 1


async def test_intake_answers_within_its_deadline(tmp_path: Path) -> None:
    limits = Limits(intake=0.2)
    url = f"sqlite://{tmp_path}/store.db"
    store = open_store(url, DrivenClock(START), receivers={"lines": Lines()}, limits=limits)
    world = World(store, DrivenClock(START), lambda: None)
    await store.open()
    holding = await busy(world, 0.6)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"within 0\.2s"):
        await store.accept(delivery((alert("a"),), START), nothing)
    assert time.monotonic() - started < 0.45
    with pytest.raises(StoreUnavailable):
        await holding
    await store.record((AuditEvent(kind="audit.read"),))
    # The one that was waiting was not written; the one being written when its time ran out was.
    assert [one.alert.fingerprint for one in await store.find_episodes()] == ["slow"]
    await store.close()


async def test_a_flood_is_refused_at_once(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    limits = Limits(queue=3)
    store = open_store(url, DrivenClock(START), receivers={"lines": Lines()}, limits=limits)
    world = World(store, DrivenClock(START), lambda: None)
    await store.open()
    holding = await busy(world)
    answers = await asyncio.gather(
        *(store.accept(delivery((alert(f"a{n}"),), START), nothing) for n in range(5)),
        return_exceptions=True,
    )
    await holding
    refused = [one for one in answers if isinstance(one, StoreUnavailable)]
    assert len(refused) == 3
    assert "at most 3" in str(refused[0])
    await store.close()


async def test_calls_after_close_are_refused(file_world: World) -> None:
    await file_world.store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await file_world.deliver(alert("a"))
    with pytest.raises(StoreUnavailable, match="closed"):
        await file_world.store.controls()


async def test_what_is_queued_when_the_store_closes_is_written(file_world: World) -> None:
    holding = await busy(file_world)
    queued = asyncio.create_task(file_world.deliver(alert("a")))
    await asyncio.sleep(0.02)
    await file_world.store.close()
    assert (await queued).accepted == 1
    await holding
    await file_world.reopen()
    assert len(await file_world.store.find_episodes()) == 2


async def test_a_seal_whose_caller_was_cancelled_is_no_hindrance_to_the_next(tmp_path: Path) -> None:
    """At shutdown the sealer is cancelled, and what is left is sealed once more."""
    store = open_store(f"sqlite:///{tmp_path}/seal.db", DrivenClock(START), receivers={"lines": Lines()})
    await store.open()
    for attempt in range(60):
        await store.record((AuditEvent(kind="test.happened"),))
        cancelled = asyncio.create_task(store.seal())
        await asyncio.sleep(attempt * 0.00005)
        cancelled.cancel()
        await store.seal()
    report = await store.verify()
    assert (report.whole, report.sealed, report.unsealed) == (True, 60, 0)
    await store.close()


async def test_a_brake_in_the_middle_of_a_group_holds_what_comes_after_it(file_world: World) -> None:
    world = file_world
    await world.activate()
    before, held, after = [await world.start(name) for name in ("a", "b", "c")]
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="drill", actor="alice", since=world.now)
    holding = await busy(world)
    answers = await asyncio.gather(
        world.admit(before),
        world.store.set_control(pause, AuditEvent(kind="control.paused")),
        world.admit(held),
        world.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed")),
        world.admit(after),
    )
    await holding
    assert [isinstance(answer, Held) for answer in answers] == [False, False, True, False, False]


async def test_what_was_opened_by_a_delivery_that_is_undone_does_not_count(file_world: World) -> None:
    def fits(one: Alert, now: Instant) -> Sequence[Opening]:
        return (opening(target=one.fingerprint, open_runs=2),)

    def breaks(one: Alert, now: Instant) -> Sequence[Opening]:
        return fits(one, now) if one.fingerprint == "c" else broken(one, now)

    store, now = file_world.store, file_world.now
    holding = await busy(file_world)
    answers = await asyncio.gather(
        store.accept(delivery((alert("a"),), now), fits),
        store.accept(delivery((alert("c"), alert("d")), now), breaks),
        store.accept(delivery((alert("e"), alert("f")), now), fits),
        return_exceptions=True,
    )
    await holding
    runs = [await store.run(id) for one in answers if isinstance(one, Receipt) for id in one.runs]
    assert [run.outcome for run in runs] == [None, None, Outcome.REFUSED]


# ---------------------------------------------------------------- what is appended, and written later


CONTROL = "kind, scope, reason, actor, since, until, data"


def control(name: str, since: int = 1) -> tuple[object, ...]:
    return (name, "", "r", "a", since, None, "{}")


def kinds(tx: SqliteTx) -> list[str]:
    return [row[0] for row in tx.all("SELECT kind FROM control ORDER BY kind")]


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[SqliteTx]:
    """Of a store of its own, as its writer has it within a group."""
    path = tmp_path / "own.db"
    found = SqliteTx(connect(path))
    bring_up_to_date(found.connection, path)
    found.gathers = True
    yield found
    found.connection.close()


def test_appended_rows_are_there_for_every_other_statement(tx: SqliteTx) -> None:
    tx.append("control", CONTROL, [control("a")])
    assert tx.former("SELECT kind FROM control", {}) == []
    assert tx.run("UPDATE control SET reason = 'seen'") == 1
    tx.append("control", CONTROL, [control(name) for name in "bcde"])
    assert tx.one("SELECT COUNT(*) FROM control") == (5,)
    tx.append("control", CONTROL, [control("f")])
    tx.many("DELETE FROM control WHERE kind = :kind", [{"kind": "f"}])
    tx.append("control", CONTROL, [control(f"g{number:03}") for number in range(200)])
    assert len(tx.change("SELECT kind FROM control WHERE kind LIKE 'g%'")) == 200
    tx.append("control", CONTROL, [control("z")])
    tx.flush()
    assert kinds(tx) == [*"abcde", *(f"g{number:03}" for number in range(200)), "z"]


def test_what_is_undone_takes_along_only_its_own(tx: SqliteTx) -> None:
    for number, written in enumerate((False, True)):
        tx.append("control", CONTROL, [control(f"other{number}")])
        before = tx.waiting()
        tx.connection.execute("SAVEPOINT one")
        tx.append("control", CONTROL, [control("mine")])
        if written:
            assert "mine" in kinds(tx)
        tx.connection.execute("ROLLBACK TO one")
        tx.restore(before)
        tx.connection.execute("RELEASE one")
    tx.flush()
    assert kinds(tx) == ["other0", "other1"]


@pytest.mark.parametrize("bad", [control("a"), control("b", since=2**70)], ids=["twice", "too large"])
def test_rows_that_cannot_be_written_together_spoil_all_of_them(
    tx: SqliteTx, bad: tuple[object, ...]
) -> None:
    tx.append("control", CONTROL, [control("a"), control("c")])
    tx.append("control", CONTROL, [bad])
    with pytest.raises(Spoilt):
        tx.flush()


async def test_what_spoils_a_group_late_is_refused_alone(file_world: World) -> None:
    """Its rows are inserted with those of all others: then it must be found out whose they were."""
    world = file_world
    await world.activate()
    first = await world.admitted(await world.start("a"))
    others = [await world.start(name) for name in ("b", "c", "d")]
    await world.end(others[2])
    holding = await busy(world)
    answers = await asyncio.gather(
        world.admit(others[0]),
        world.admit(first),  # it has an intent of that number
        world.admit(others[1]),
        world.end(others[2]),
        world.deliver(alert("e")),
        world.store.run(first.id),
        return_exceptions=True,
    )
    await holding
    assert [type(answer) for answer in answers] == [Run, Conflict, Run, LeaseLost, Receipt, Run]
    assert [len(await world.store.intents(run.id)) for run in (first, *others)] == [1, 1, 1, 0]
    assert (await world.kinds()).count("run.admitted") == 3
    assert len(await world.store.find_episodes()) == 6
    assert (await world.deliver(alert("e"))).repeated == 1
