"""What replicas tell each other, and that nothing rests on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.contracts import Hint, Move, Store
from remediator.model import (
    HOUR,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Reason,
    Run,
    State,
    Status,
)
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert, opening

WAIT = 10.0
EVENT = AuditEvent(kind="test.done")
LISTENERS = (
    "FROM pg_stat_activity WHERE application_name = 'remediator hints' AND datname = current_database()"
)


@dataclass
class Listening:
    """A replica, and what it was told."""

    world: World
    told: list[Hint] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, hint: Hint) -> None:
        self.told.append(hint)
        self.news.set()

    async def heard(self, hint: Hint) -> None:
        """Wait until it was told this, and forget that."""
        async with asyncio.timeout(WAIT):
            while hint not in self.told:
                self.news.clear()
                await self.news.wait()
        self.told.remove(hint)


async def listening(database: str, clock: DrivenClock) -> Listening:
    async def reopen() -> None:
        raise NotImplementedError

    store: Store = open_store(database, clock, receivers={"lines": Lines()})
    made = Listening(World(store, clock, reopen))
    store.hints(made.hear)
    await store.open()
    return made


@pytest_asyncio.fixture
async def two(database: str) -> AsyncIterator[tuple[World, Listening]]:
    """One that does something, and another that listens."""
    clock = DrivenClock(START)
    one, other = await listening(database, clock), await listening(database, clock)
    await listeners(database, 2)
    yield one.world, other
    await one.world.store.close()
    await other.world.store.close()


async def listeners(database: str, count: int, without: frozenset[int] = frozenset()) -> frozenset[int]:
    """Wait until so many connections listen; returns their process ids."""
    async with asyncio.timeout(WAIT), await psycopg.AsyncConnection.connect(database) as connection:
        while True:
            rows = await (await connection.execute(f"SELECT pid {LISTENERS}")).fetchall()
            await connection.commit()
            found = frozenset(row[0] for row in rows) - without
            if len(found) == count:
                return found
            await asyncio.sleep(0.01)


async def waiting(world: World, reason: Reason) -> Run:
    """A run that waits for an hour because of a brake."""
    run = await world.start()
    later = Instant(world.now + HOUR)
    return await world.store.move(
        run, Move(state=State.GUARD, next_at=later, progress=run.progress, reason=reason)
    )


Scene = Callable[[World], AsyncIterator[None]]
"""Prepares, yields, and makes a run due."""


async def opens(world: World) -> AsyncIterator[None]:
    world.openings = lambda one: (opening(),)
    yield
    await world.deliver(alert())


async def resolves(world: World) -> AsyncIterator[None]:
    world.openings = lambda one: (opening(),)
    await world.deliver(alert())
    yield
    await world.deliver(alert(status=Status.RESOLVED))


async def wakes(world: World) -> AsyncIterator[None]:
    run = await waiting(world, Reason.CHECK_FALSE)
    yield
    await world.store.wake(run.id)


async def resumes(world: World) -> AsyncIterator[None]:
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="drill", actor="test", since=START)
    await world.store.set_control(pause, EVENT)
    await waiting(world, Reason.PAUSED)
    yield
    assert await world.store.claim("w", 10) == []
    assert await world.store.clear_control(ControlKind.PAUSE, "", EVENT)
    assert len(await world.store.claim("w", 10)) == 1  # due now, not when the pause would have ended


async def releases(world: World) -> AsyncIterator[None]:
    run = await world.start()
    yield
    await world.store.release([run])


@pytest.mark.parametrize("scene", [opens, resolves, wakes, resumes, releases])
async def test_a_run_that_becomes_due_is_told_to_the_others(
    two: tuple[World, Listening], scene: Scene
) -> None:
    one, other = two
    play = scene(one)
    await anext(play)
    for mark in ("set-2", "set-3"):  # whatever the preparations told has been heard before the second
        await one.activate(mark)
        await other.heard(Hint.POLICIES)
    other.told.clear()
    with pytest.raises(StopAsyncIteration):
        await anext(play)
    await other.heard(Hint.DUE)


async def test_a_policy_set_is_told_to_the_others_and_not_to_oneself(two: tuple[World, Listening]) -> None:
    one, other = two
    await one.activate("set-2")
    await other.heard(Hint.POLICIES)
    await other.world.activate("set-3")
    one.openings = lambda found: (opening(),)
    await one.deliver(alert())
    await other.heard(Hint.DUE)  # it would have heard itself before that
    assert other.told == []


async def test_what_makes_nothing_due_is_told_to_nobody(database: str, two: tuple[World, Listening]) -> None:
    """Intake's hot path: alerts that open no run, and repeats."""
    one, _ = two
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("LISTEN remediator")
        for number in range(20):
            await one.deliver(alert(f"a{number}"))
            await one.deliver(alert(f"a{number}"))
        said = []
        for mark in ("set-2", "set-3"):
            await one.activate(mark)
            said += [note.payload async for note in connection.notifies(timeout=WAIT, stop_after=1)]
    assert [note.split()[1] for note in said] == ["policies", "policies"]


async def test_a_lost_listener_costs_only_time(database: str, two: tuple[World, Listening]) -> None:
    one, other = two
    gone = await listeners(database, 2)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
    # Nobody listens and nobody can tell; the work is there for whoever looks.
    one.openings = lambda found: (opening(target=found.fingerprint),)
    await one.deliver(alert())
    assert len(await other.world.store.claim("other", 10)) == 1
    # Made anew, it says to look once, for something may have been missed; then it works as before.
    await other.heard(Hint.DUE)
    await listeners(database, 2, without=gone)
    other.told.clear()
    await one.deliver(alert("more"))
    await other.heard(Hint.DUE)
