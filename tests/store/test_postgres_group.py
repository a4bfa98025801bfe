"""Many runs in one transaction: each is judged as if it were alone, and none spoils another."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.contracts import Breaker, Declaration, Hint, Move, NewEffect
from remediator.errors import StoreUnavailable
from remediator.model import (
    HOUR,
    Approval,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Run,
    RunId,
    Severity,
    State,
)
from remediator.store import moves, open_store
from remediator.store.limits import Limits
from remediator.store.postgres import moves as postgres_moves
from remediator.store.postgres.lane import Item, Lane
from remediator.store.postgres.link import Link
from remediator.store.postgres.pool import Pool, nothing
from remediator.store.postgres.tx import PostgresTx
from remediator.store.tx import Row
from tests.store.world import START, Lines, World, alert, opening, plan

EVENT = AuditEvent(kind="test.done")
DOCS = Path(__file__).parents[2] / "docs"


@pytest_asyncio.fixture
async def one(database: str) -> AsyncIterator[World]:
    async def reopen() -> None:
        raise NotImplementedError

    clock = DrivenClock(START)
    world = World(open_store(database, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    await world.activate()
    yield world
    await world.store.close()


async def claimed(world: World, count: int) -> list[Run]:
    world.openings = lambda one: (opening(target=one.fingerprint, open_runs=1_000),)
    await world.deliver(*(alert(f"a{number}") for number in range(count)))
    return list(await world.store.claim("w", count))


def transactions(database: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    return 0 if row is None else int(row[0])


def sessions(database: str) -> int:
    with psycopg.connect(database, application_name="test") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'remediator%'"
        ).fetchone()
    return 0 if row is None else int(row[0])


async def test_they_share_transactions(database: str, one: World) -> None:
    runs = await claimed(one, 40)
    before = transactions(database)
    moved = await asyncio.gather(*(one.move(run, State.GUARD, events=(EVENT, EVENT)) for run in runs))
    assert transactions(database) - before < 20  # the first goes alone, the others meet
    assert {run.state for run in moved} == {State.GUARD}
    assert (await one.kinds()).count("test.done") == 80


async def test_a_daemon_keeps_as_many_connections_as_operators_are_told(database: str, one: World) -> None:
    """Reads, looks, moves, admissions, deliveries, the watch and the hints at once, and again and again."""
    told = [
        re.search(r"(\d+) connections", (DOCS / name).read_text()) for name in ("store.md", "operations.md")
    ]
    runs = await claimed(one, 60)
    most = 0
    for at in range(0, 60, 20):
        ten, others = runs[at : at + 10], runs[at + 10 : at + 20]
        await asyncio.gather(
            *(one.move(run, State.GUARD) for run in ten),
            *(one.admit(run, 1) for run in others),
            *(one.store.run(run.id) for run in ten),
            *(one.store.find_runs(limit=1) for _ in range(20)),
        )
        most = max(most, sessions(database))
    assert [said and int(said[1]) for said in told] == [most, most]


BREAKER = Control(kind=ControlKind.BREAKER, scope="policy:p", reason="r", actor="a", since=START)
PLAN = plan()
FIELDS: dict[str, object] = {
    "effects": (NewEffect(field="size", prior=1, current=2, plan=PLAN, expires_at=Instant(START + HOUR)),),
    "effect_done": ((1, "returned"),),
    "effect_extend": (1, Instant(START + HOUR)),
    "controls": (BREAKER,),
    "ask": Approval(
        id=1, run=RunId(1), plan=PLAN, asked_at=START, expires_at=Instant(START + HOUR), role="lead"
    ),
    "breaker": Breaker(ineffective=3, control=BREAKER, event=EVENT),
    "incident": Declaration(
        target="db:a", target_key="k:a", severity=Severity.P2, chain="on-call", policy="p"
    ),
}
"""What a move may bring, that only a statement of its own can write."""


async def test_no_field_of_a_move_is_forgotten_where_many_are_written_together(one: World) -> None:
    assert set(Move.__struct_fields__) == moves.PLAIN | moves.MORE
    assert not moves.PLAIN & moves.MORE
    assert set(FIELDS) == moves.MORE
    (run,) = await claimed(one, 1)
    move = Move(state=State.GUARD, next_at=START, progress=run.progress)
    assert postgres_moves.plain(run, move)
    for name, value in FIELDS.items():
        assert not postgres_moves.plain(run, msgspec.structs.replace(move, **{name: value})), name


async def test_nothing_is_written_after_its_caller_was_told_that_nobody_knows(
    database: str, one: World
) -> None:
    """A group waits for a row until the time of one of its runs is up: that one is left out."""
    late, waiting = await claimed(one, 2)

    def connect() -> Link:
        return Link(database, Limits(), None, seconds=5)

    pool = Pool(connect, str, 2, "test")
    lane = Lane(connect, str, pool, "test-moves", postgres_moves.together, apart=False)

    def item(run: Run, seconds: float) -> Item:
        move = Move(state=State.GUARD, next_at=START, progress=run.progress, observed="moved")

        def work(tx: PostgresTx) -> Run:
            return moves.move(tx, run, move, START)

        return Item(
            work, run, time.monotonic() + seconds, settled=lambda tx: None, ids={"audit": 0}, wanted=move
        )

    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT 1 FROM run WHERE id = %s FOR UPDATE", (waiting.id,))
        first, second = lane.put(item(late, 0.3)), lane.put(item(waiting, 30))
        lane.start()
        await asyncio.sleep(0.4)
        await other.commit()
    with pytest.raises(StoreUnavailable):
        await asyncio.wrap_future(first)
    assert (await asyncio.wrap_future(second)).observed == "moved"
    assert (await one.store.run(late.id)).observed == ""
    assert (await one.store.run(waiting.id)).observed == "moved"
    await asyncio.to_thread(lane.stop)
    await asyncio.to_thread(pool.close)


# ---------------------------------------------------------------- what is appended, and written later


@pytest.fixture
def link(database: str) -> Link:
    return Link(database, Limits(), None, seconds=5)


ROW = ("k", "", "r", "a", 1, None, "{}")
CONTROL = "kind, scope, reason, actor, since, until, data"


def kinds(tx: PostgresTx) -> list[str]:
    return [row[0] for row in tx.all("SELECT kind FROM control ORDER BY kind")]


def test_appended_rows_are_there_for_every_other_statement(link: Link) -> None:
    def work(tx: PostgresTx) -> None:
        tx.append("control", CONTROL, [("a", *ROW[1:])])
        assert tx.former("SELECT kind FROM control", {}) == []
        assert tx.run("UPDATE control SET reason = 'seen'") == 1
        tx.append("control", CONTROL, [(name, *ROW[1:]) for name in "bcde"])
        assert kinds(tx) == list("abcde")
        tx.append("control", CONTROL, [("z", *ROW[1:])])

    link.write(work, nothing, nothing)
    assert link.read(kinds) == list("abcdez")
    link.close()


def test_what_is_undone_takes_along_only_its_own(link: Link) -> None:
    class Undone(Exception):
        pass

    def fail(tx: PostgresTx, written: bool) -> None:
        with tx.attempt():
            tx.append("control", CONTROL, [("mine", *ROW[1:])])
            if written:
                assert "mine" in kinds(tx)
            raise Undone

    def work(tx: PostgresTx) -> None:
        for number, written in enumerate((False, True)):
            tx.append("control", CONTROL, [(f"other{number}", *ROW[1:])])
            with pytest.raises(Undone):
                fail(tx, written)

    link.write(work, nothing, nothing)
    assert link.read(kinds) == ["other0", "other1"]
    link.close()


def test_what_is_undone_was_not_read_either(link: Link) -> None:
    """What was read before is still true; what was read since may have been of what is undone."""

    class Undone(Exception):
        pass

    def count(tx: PostgresTx) -> int:
        return len(kinds(tx))

    def fail(tx: PostgresTx) -> None:
        with tx.attempt():
            tx.append("control", CONTROL, [("mine", *ROW[1:])])
            tx.unknown("before")
            assert tx.known("before", lambda: count(tx)) == 2
            assert tx.known("since", lambda: count(tx)) == 2
            tx.hint(Hint.DUE)
            raise Undone

    def work(tx: PostgresTx) -> None:
        tx.append("control", CONTROL, [("other", *ROW[1:])])
        assert tx.known("before", lambda: count(tx)) == 1
        with pytest.raises(Undone):
            fail(tx)
        assert tx.known("before", lambda: 99) == 1
        assert tx.known("since", lambda: count(tx)) == 1
        assert tx.hinted == set()

    link.write(work, nothing, nothing)
    assert link.read(kinds) == ["other"]
    link.close()


def test_an_id_is_given_out_once(link: Link) -> None:
    def work(tx: PostgresTx) -> list[int]:
        found = [tx.id("run") for _ in range(100)]
        found += range(first := tx.id("run", 70), first + 70)
        return [RunId(id) for id in found]

    ids = link.write(work, nothing, nothing) + link.write(work, nothing, nothing)
    assert len(ids) == len(set(ids)) == 340
    link.close()


def test_ids_are_fetched_at_once_only_for_what_wants_some(link: Link) -> None:
    def work(tx: PostgresTx) -> list[int]:
        tx.reserve({"audit": 0, "intent": 3})
        return [tx.id("intent") for _ in range(3)]

    assert link.write(work, nothing, nothing) == [1, 2, 3]
    link.close()


# ---------------------------------------------------------------- what goes in one round trip


def test_several_statements_answer_each_for_itself(link: Link) -> None:
    def work(tx: PostgresTx) -> list[list[Row]]:
        tx.append("control", CONTROL, [("a", *ROW[1:])])
        named = tx.reserve(
            {"audit": 5, "run": 2, "alert": 0},
            ("SELECT kind FROM control WHERE reason = :reason", {"reason": "r"}),
            ("UPDATE control SET reason = 'seen'", {}),
            ("SELECT reason FROM control", {}),
        )
        first = tx.id("audit")
        assert [tx.id("audit", 2), tx.id("audit", 2)] == [first + 1, first + 3]
        return named

    assert link.write(work, nothing, nothing) == [[("a",)], [], [("seen",)]]
    assert link.write(lambda tx: tx.several(("SELECT 1", {})), nothing, nothing) == [[(1,)]]
    link.close()


def test_what_is_last_finds_all_that_was_appended(link: Link) -> None:
    def work(tx: PostgresTx) -> None:
        tx.last("UPDATE control SET reason = reason || :more", [{"more": "1"}, {"more": "2"}])
        tx.append("control", CONTROL, [(name, *ROW[1:]) for name in "ab"])

    link.write(work, nothing, nothing)
    assert link.read(lambda tx: tx.all("SELECT reason FROM control")) == [("r12",), ("r12",)]
    link.close()


@pytest.mark.parametrize("rows", [2, 40])
def test_one_that_is_refused_undoes_the_rest_of_its_round_trip(link: Link, rows: int) -> None:
    def work(tx: PostgresTx) -> None:
        tx.append("control", CONTROL, [(f"k{number}", *ROW[1:]) for number in range(rows)])
        tx.append("control", f"{CONTROL} ", [("k0", *ROW[1:])])
        tx.last("UPDATE control SET reason = :reason", [{"reason": "last"}])

    with pytest.raises(psycopg.errors.UniqueViolation):
        link.write(work, nothing, nothing)
    assert link.usable
    link.write(lambda tx: tx.append("control", CONTROL, [("z", *ROW[1:])]), nothing, nothing)
    assert link.read(kinds) == ["z"]
    link.close()


def test_locks_are_taken_with_the_beginning(link: Link, database: str) -> None:
    other = Link(database, Limits(intake=0.2), None, seconds=5)

    def work(tx: PostgresTx) -> None:
        tx.lock("one")  # has it, and asks for nothing
        for name in ("one", "two"):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.write(lambda _: None, nothing, nothing, locks=[name])
        other.write(lambda _: None, nothing, nothing, locks=["three"])

    link.write(work, nothing, nothing, locks=["one", "two"])
    other.write(lambda _: None, nothing, nothing, locks=["one", "two"])
    for each in (link, other):
        each.close()
