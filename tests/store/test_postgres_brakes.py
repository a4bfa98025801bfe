"""Brakes among three stores on one PostgreSQL database: what one puts on holds for all, at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import psycopg
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.contracts import Held, Move
from remediator.model import (
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Outcome,
    Progress,
    Reason,
    Run,
    State,
)
from remediator.store import open_store
from tests.store.conformance.test_brakes import SURGE, breaker, storm
from tests.store.world import START, Lines, World, alert, opening

_BLOCKED = "SELECT 1 FROM pg_locks WHERE NOT granted"
_BACKWARDS = (
    "CREATE INDEX backwards ON run (id DESC)",
    "CLUSTER run USING backwards",
    "DROP INDEX backwards",
)
Three = tuple[World, World, World]


@pytest_asyncio.fixture
async def three(database: str) -> AsyncIterator[Three]:
    clock = DrivenClock(START)

    async def replica() -> World:
        async def reopen() -> None:
            raise NotImplementedError

        world = World(open_store(database, clock, receivers={"lines": Lines()}), clock, reopen)
        await world.store.open()
        return world

    worlds = (await replica(), await replica(), await replica())
    await worlds[0].activate()
    yield worlds
    for world in worlds:
        await world.store.close()


def pause(scope: str = "") -> Control:
    return Control(kind=ControlKind.PAUSE, scope=scope, reason="drill", actor="alice", since=START)


async def test_a_pause_is_seen_everywhere_within_a_second(three: Three) -> None:
    first, *others = three
    for number in range(20):
        scope = f"policy:p{number}"
        begun = time.monotonic()
        await first.store.set_control(pause(scope), AuditEvent(kind="control.paused"))
        seen = await asyncio.gather(*(world.store.controls() for world in others))
        assert all(scope in [one.scope for one in controls] for controls in seen)
        assert time.monotonic() - begun < 1


async def test_a_resume_waits_for_who_moves_runs_and_stops_nobody(database: str, three: Three) -> None:
    """Whoever writes several runs does so in the order of their ids, so that none waits for another in a
    circle: not even where the runs lie the other way round in the table."""
    first = three[0]
    await first.store.set_control(pause(), AuditEvent(kind="control.paused"))
    first.openings = lambda one: (opening(target=one.fingerprint),)
    await first.deliver(*(alert(f"a{number}") for number in range(5)))
    waiting = Instant(START + SECOND)
    runs = await first.store.claim("w", 5)
    for run in runs:
        await first.move(run, State.GUARD, reason=Reason.PAUSED, next_at=waiting)
    ids = sorted(run.id for run in runs)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
        for statement in _BACKWARDS:
            await other.execute(statement)

    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SET deadlock_timeout = '20ms'")  # a circle ends here, not in the store
        await other.execute("SELECT 1 FROM run WHERE id = %s FOR UPDATE", (ids[0],))
        resuming = asyncio.create_task(
            first.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
        )
        while not await (await other.execute(_BLOCKED)).fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for id in ids[1:]:
            await other.execute("SELECT 1 FROM run WHERE id = %s FOR UPDATE", (id,))
        await other.commit()
    assert await resuming
    assert len(await first.store.claim("w", 5)) == 5


async def test_once_a_pause_has_answered_no_replica_admits(three: Three) -> None:
    """While runs are admitted on all three, one replica pauses: no intent is newer than its answer."""
    for world in three:
        world.openings = lambda one: (opening(target=one.fingerprint, open_runs=1_000),)
    await three[0].deliver(*(alert(f"a{i}") for i in range(90)))
    claimed = [await world.store.claim(f"w{i}", 30) for i, world in enumerate(three)]
    admitted: list[Run] = []
    many = asyncio.Event()

    async def admit(world: World, runs: list[Run]) -> None:
        for run in runs:
            answer = await world.admit(run, key=f"k:{run.id}")
            if isinstance(answer, Held):
                assert answer.reason is Reason.PAUSED
            else:
                admitted.append(run)
                if len(admitted) == 20:
                    many.set()

    async def stop(world: World) -> None:
        await many.wait()
        await world.store.set_control(pause(), AuditEvent(kind="control.paused"))
        # nothing is admitted from here on, whatever is still asked
        count = len(await intents(three, claimed))
        await asyncio.sleep(0.2)
        assert len(await intents(three, claimed)) == count

    await asyncio.gather(
        stop(three[2]), *(admit(world, list(runs)) for world, runs in zip(three, claimed, strict=True))
    )
    assert 20 <= len(await intents(three, claimed)) < 90


async def intents(three: Three, claimed: Sequence[Sequence[Run]]) -> list[int]:
    found: list[int] = []
    for runs in claimed:
        for run in runs:
            found += [run.id for _ in await three[0].store.intents(run.id)]
    return found


async def test_two_runs_that_end_at_once_open_the_breaker_once(three: Three) -> None:
    """The second of two ineffective runs opens it, whichever that is: neither misses the other."""
    one, two, _ = three
    for number in range(15):
        policy = f"p{number}"
        runs = [
            (world, await world.start(f"{policy}-{i}", policy=policy)) for i, world in enumerate((one, two))
        ]
        change = Move(
            state=State.GUARD,
            next_at=None,
            progress=Progress(),
            outcome=Outcome.ESCALATED,
            reason=Reason.NOT_HEALED,
            breaker=breaker(policy, ineffective=2),
        )
        await asyncio.gather(*(world.store.move(run, change) for world, run in runs))
        scopes = [control.scope for control in await one.store.controls()]
        assert scopes.count(f"policy:{policy}") == 1
    assert len(await one.kinds(kind="breaker.tripped")) == 15
    assert len(await two.store.due_messages(100)) == 15


async def test_a_storm_is_one_storm_for_all(three: Three) -> None:
    news = await asyncio.gather(
        *(
            world.store.trip(storm(START + 900 * SECOND), AuditEvent(kind="storm.tripped"))
            for world in (*three, *three)
        )
    )
    assert sorted(news) == [False] * 5 + [True]


async def test_what_each_replica_takes_is_counted_together(three: Three) -> None:
    for world in three:
        world.openings = lambda one: ()
    await asyncio.gather(
        *(world.deliver(alert(f"a{i}-{j}")) for i, world in enumerate(three) for j in range(2))
    )
    (found,) = await three[0].store.arrivals(Instant(0))
    assert (found.sender, found.count) == ("am", 6)
    run = await three[1].start("one-more")
    wanted = msgspec.structs.replace(three[2].admission(run), storm=SURGE)
    answer = await three[2].store.admit(run, wanted)
    assert isinstance(answer, Held)
    assert (answer.reason, answer.observed) == (Reason.STORM, "7 new alerts of am within 1m")


async def test_an_announcement_is_made_once(three: Three) -> None:
    made = await asyncio.gather(
        *(
            world.store.once("window:a:begin", Instant(START + 1000), (AuditEvent(kind="window.announced"),))
            for world in (*three, *three)
        )
    )
    assert sorted(made) == [False] * 5 + [True]
    assert await three[0].kinds(kind="window.announced") == ["window.announced"]


async def test_who_waits_for_a_pause_is_due_once_it_is_lifted(three: Three) -> None:
    first, second, third = three
    await first.store.set_control(pause(), AuditEvent(kind="control.paused"))
    waits = await first.start("waits")
    await first.move(waits, next_at=Instant(START + 300 * SECOND), reason=Reason.PAUSED)
    about_to = await second.start("about-to")  # claimed, and has seen the pause
    assert await third.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
    await second.move(about_to, next_at=Instant(START + 300 * SECOND), reason=Reason.PAUSED)
    due = await third.store.claim("w3", 10)
    assert {run.id for run in due} == {waits.id, about_to.id}
