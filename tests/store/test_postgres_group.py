"""Many runs in one transaction: each is judged as if it were alone, and none spoils another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.contracts import Held
from remediator.errors import Conflict, LeaseLost
from remediator.model import AuditEvent, Reason, Run, RunId, State
from remediator.store import open_store
from remediator.store.limits import Limits
from remediator.store.postgres_link import Link
from remediator.store.postgres_pool import nothing
from remediator.store.postgres_tx import PostgresTx
from tests.store.world import START, Lines, World, alert, limit, opening

EVENT = AuditEvent(kind="test.done")


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


async def test_they_share_transactions(database: str, one: World) -> None:
    runs = await claimed(one, 40)
    before = transactions(database)
    moved = await asyncio.gather(*(one.move(run, State.GUARD, events=(EVENT, EVENT)) for run in runs))
    assert transactions(database) - before < 20  # the first goes alone, the others meet
    assert {run.state for run in moved} == {State.GUARD}
    assert (await one.kinds()).count("test.done") == 80


async def test_a_budget_is_counted_within_the_group(one: World) -> None:
    runs = await claimed(one, 30)
    answers = await asyncio.gather(*(one.admit(run, 1, limit("global", 7)) for run in runs))
    assert len([answer for answer in answers if isinstance(answer, Run)]) == 7
    assert {one.reason for one in answers if isinstance(one, Held)} == {Reason.BUDGET}
    # What was refused left nothing: no intent, no event, no lock.
    assert (await one.kinds()).count("run.admitted") == 7
    assert len(await one.store.locks()) == 7
    intents = [await one.store.intents(run.id) for run in runs]
    assert sorted(len(found) for found in intents) == [0] * 23 + [1] * 7


async def test_who_has_lost_the_lease_and_who_asks_twice_spoil_nobody(one: World) -> None:
    runs = await claimed(one, 12)
    twice = await one.admitted(runs[0])
    await one.store.release([runs[1]])
    assert [run.id for run in await one.store.claim("other", 10)] == [runs[1].id]

    async def outcome(run: Run) -> str:
        try:
            answer = await one.admit(run, 1)
        except (Conflict, LeaseLost) as error:
            return type(error).__name__
        return type(answer).__name__

    answers = await asyncio.gather(*(outcome(run) for run in (twice, *runs[1:])))
    assert answers == ["Conflict", "LeaseLost"] + ["Run"] * 10
    assert (await one.kinds()).count("run.admitted") == 11


async def test_what_is_known_of_many_is_what_is_known_of_each(one: World) -> None:
    runs = await claimed(one, 5)
    acted = await one.admitted(runs[2])
    facts = await one.store.facts([*runs[:2], acted, *runs[3:]])
    for run in runs:
        assert facts[run.id].episodes == tuple(await one.store.episodes(run.id))
        assert facts[run.id].intents == tuple(await one.store.intents(run.id))
        assert facts[run.id].controls == tuple(await one.store.controls())
    assert await one.store.facts([]) == {}


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


def test_an_id_is_given_out_once(link: Link) -> None:
    def work(tx: PostgresTx) -> list[int]:
        found = [tx.id("run") for _ in range(100)]
        found += range(first := tx.id("run", 70), first + 70)
        return [RunId(id) for id in found]

    ids = link.write(work, nothing, nothing) + link.write(work, nothing, nothing)
    assert len(ids) == len(set(ids)) == 340
    link.close()
