"""The clock of a PostgreSQL server jumps under several replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

import psycopg
import pytest
import pytest_asyncio

from remediator.clock import SystemClock
from remediator.contracts import Revision
from remediator.engine.upkeep import ClockWatch
from remediator.model import (
    DAEMON,
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Message,
    Millis,
    Progress,
    Run,
    Severity,
    State,
)
from remediator.store import open_store
from remediator.store.limits import Limits
from remediator.store.postgres import clock as postgres_clock
from remediator.store.postgres.clock import Note, ServerClock
from remediator.store.postgres.link import Link
from remediator.store.postgres.pool import nothing
from remediator.store.postgres.tx import CLASS, TIMING, PostgresTx
from tests.servers.directory import remove, temporary
from tests.servers.faketime import WallClock
from tests.servers.postgres import Postgres
from tests.store.world import Lines, World, alert, opening

BOTH_WAYS = pytest.mark.parametrize("by", [Millis(2 * HOUR), Millis(-2 * HOUR)])
PATIENT = Limits(intake=60.0, write=60.0)
NEAR = 5 * MINUTE
"""Two instants of a test that waits for nothing are nearer to each other than this."""
PAUSED = AuditEvent(kind="control.paused")


# ---------------------------------------------------------------- what one process makes of what it sees


class Seeing:
    """A process: the clock that nobody sets, in seconds, and what it sees of the other, in milliseconds."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.wall = 1_000_000_000
        self.note = Note()
        self.clock = ServerClock(lambda: self.passed)
        self.look()
        self.clock.joined()

    def later(self, seconds: float, jump: int = 0) -> None:
        self.passed += seconds
        self.wall += round(seconds * SECOND) + jump

    def noted(self, moved: int = 0) -> None:
        """Somebody has noted that he lives by what the clock shows, and how far timers were moved."""
        self.note = Note(self.note.number + 1, moved, self.wall)

    def look(self, took: float = 0.0) -> int:
        asked, self.passed = self.passed, self.passed + took
        return self.clock.look(self.wall, self.note, asked)


@BOTH_WAYS
def test_a_jump_is_not_believed_until_timers_have_been_moved(by: Millis) -> None:
    seeing = Seeing()
    before = seeing.wall
    seeing.later(1, jump=by)
    assert seeing.look() == before + SECOND == seeing.clock.now()
    assert seeing.clock.jump() == by
    seeing.noted(by)
    assert seeing.look() == seeing.wall == seeing.clock.now()
    assert seeing.clock.jump() == 0


def test_small_corrections_are_followed() -> None:
    seeing = Seeing()
    for _ in range(5):
        seeing.later(1, jump=-20 * SECOND)
        assert seeing.look() == seeing.wall
    assert seeing.clock.jump() == 0


def test_who_slept_believes_those_who_were_awake() -> None:
    """Its own time stood still: a machine that was suspended."""
    seeing = Seeing()
    seeing.wall += 2 * HOUR
    seeing.noted()
    seeing.later(1)
    assert seeing.look() == seeing.wall
    assert seeing.clock.jump() == 0


def test_a_note_from_before_the_jump_is_no_witness() -> None:
    for jump in (31 * SECOND, -31 * SECOND):
        seeing = Seeing()
        seeing.noted()
        seeing.later(1, jump=jump)
        seeing.look()
        assert seeing.clock.jump() == jump


def test_a_note_that_was_known_is_no_witness() -> None:
    """The database was away for an hour, and its clock stood still."""
    seeing = Seeing()
    seeing.noted()
    seeing.look()
    seeing.later(HOUR / SECOND, jump=-HOUR)
    seeing.look()
    assert seeing.clock.jump() == -HOUR


def test_a_slow_answer_is_no_jump() -> None:
    """Stopped between the question and the answer: the clock is that of any moment between them."""
    seeing = Seeing()
    assert seeing.look(took=600) == seeing.wall
    assert seeing.clock.jump() == 0
    seeing.wall += 600 * SECOND
    assert seeing.look() == seeing.wall


def test_a_snapshot_from_before_the_timers_were_moved_has_the_time_from_before() -> None:
    seeing = Seeing()
    seeing.noted()
    former = seeing.note
    seeing.later(1, jump=2 * HOUR)
    seeing.noted(2 * HOUR)
    assert seeing.look() == seeing.wall
    seeing.note = former
    assert seeing.look() == seeing.wall - 2 * HOUR
    assert seeing.clock.jump() == 0  # it is behind us


def test_there_and_back_while_nobody_looked_for_one_of_them() -> None:
    """Another has moved timers forward; the clock is back already, and they are not."""
    seeing = Seeing()
    seeing.later(1)
    seeing.note = Note(1, 2 * HOUR, seeing.wall + 2 * HOUR)
    assert seeing.look() == seeing.wall + 2 * HOUR
    assert seeing.clock.jump() == -2 * HOUR


# ---------------------------------------------------------------- a real server


@dataclass
class Site:
    """A server, its clock, and an empty database on it."""

    clock: WallClock
    address: str

    def step(self, by: int) -> None:
        self.clock.step(by // SECOND)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Postgres, WallClock]]:
    place = temporary("clock")
    place.chmod(0o755)
    clock = WallClock(place / "ahead")
    with Postgres(env=clock.env) as server:
        yield server, clock
        server.crash()  # a shutdown in good order takes long where the clock has been set
    remove(place)


@pytest.fixture
def site(server: tuple[Postgres, WallClock], request: pytest.FixtureRequest) -> Site:
    postgres, clock = server
    clock.step(0)
    name = f"clock{abs(hash(request.node.name))}"
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return Site(clock, postgres.dsn(dbname=name))


class Replica(World):
    """A store that lives by its server's clock, and its watch over that."""

    def __init__(self, address: str) -> None:
        async def reopen() -> None:
            raise NotImplementedError

        store = open_store(address, SystemClock(), receivers={"lines": Lines()}, limits=PATIENT)
        super().__init__(store, cast("object", None), reopen)  # type: ignore[arg-type]
        self.watch = ClockWatch(store)

    @property
    def now(self) -> Instant:
        assert self.store.steady is not None
        return self.store.steady.now()

    @property
    def ahead(self) -> Millis:
        """By how much it saw the clock ahead when it looked last."""
        assert self.store.steady is not None
        return self.store.steady.jump()

    async def open_run(self, name: str) -> Run:
        """A claimed run."""
        self.openings = lambda one: (opening(target=f"db:{name}", next_at=Instant(0)),)
        receipt = await self.deliver(alert(name, at=self.now))
        return await self.claimed(receipt.runs[0])


@pytest_asyncio.fixture
async def pair(site: Site) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas."""
    one, two = Replica(site.address), Replica(site.address)
    await one.store.open()
    await two.store.open()
    await one.store.propose(Revision(hash="set-1", files={"p.yaml": "set-1"}), ())
    yield one, two
    await one.store.close()
    await two.store.close()


def pause(now: Instant) -> Control:
    return Control(kind=ControlKind.PAUSE, scope="", reason="jumped", actor="daemon", since=now)


Pair = tuple[Replica, Replica]


@BOTH_WAYS
async def test_timers_are_moved_once_though_every_replica_sees_it(pair: Pair, site: Site, by: Millis) -> None:
    one, _ = pair
    began = one.now
    run = await one.open_run("a")
    await one.move(run, next_at=Instant(began + HOUR), progress=Progress(waiting_since=began))
    call = Message(chain=DAEMON, severity=Severity.P1, subject="s", body="b")
    await one.store.record((), (call,))
    site.step(by)
    for world in pair:  # nobody acts by the new time
        assert await world.store.claim("w", 10) == []
        assert [found.message for found in await one.store.due_messages(10)] == [call]
        assert abs(await world.store.now() - began) < NEAR
        assert abs(world.ahead - by) < NEAR
    await asyncio.gather(*(world.watch() for world in (*pair, *pair)))
    (told,) = [record for record in await one.store.audit() if record.event.kind == "control.paused"]
    assert "the clock jumped by" in str(told.event.observed)
    due = [found.message for found in await one.store.due_messages(10)]
    assert [message.subject.partition(":")[0] for message in due if message != call] == [
        "[P1] remediator paused"
    ]
    for world in pair:
        await world.store.claim("w", 10)
        assert world.ahead == 0
        assert abs(await world.store.now() - began - by) < NEAR
        found = await world.store.run(run.id)
        assert found.next_at is not None
        assert found.progress.waiting_since is not None
        assert abs(found.next_at - began - HOUR - by) < NEAR
        assert abs(found.progress.waiting_since - began - by) < NEAR
        await world.watch()  # from here on it is no news
        await world.store.jumped(by, pause(world.now), PAUSED)  # the answer was lost: asked for again
    assert (await one.kinds()).count("control.paused") == 1
    assert abs(((await one.store.run(run.id)).next_at or 0) - began - HOUR - by) < NEAR


async def _waiting(address: str, count: int) -> None:
    """Until so many transactions wait for the lock of the clock."""
    sql = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as look:
        while True:
            row = await (await look.execute(sql, (TIMING,))).fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(0.01)


@BOTH_WAYS
async def test_who_writes_meanwhile_does_so_before_it_or_after_it(pair: Pair, site: Site, by: Millis) -> None:
    """What is under way is waited for; what comes then has been reckoned by the old time, and is moved."""
    one, two = pair
    acting = await two.admitted(await two.open_run("a"))
    looking = await two.open_run("b")
    async with await psycopg.AsyncConnection.connect(site.address) as other:
        await other.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (CLASS, TIMING))
        began = two.now
        site.step(by)
        jumping = asyncio.create_task(one.store.jumped(by, pause(one.now), PAUSED))
        await _waiting(site.address, 1)
        later = Progress(number=1, settle_until=Instant(began + HOUR))
        moving = asyncio.create_task(
            two.move(acting, State.SETTLING, next_at=Instant(began + MINUTE), progress=later)
        )
        await _waiting(site.address, 2)
        assert not jumping.done()
        await other.commit()
    await jumping
    moved = await moving
    assert moved.next_at is not None
    assert moved.progress.settle_until is not None
    assert abs(moved.next_at - began - MINUTE - by) < NEAR
    assert abs(moved.progress.settle_until - began - HOUR - by) < NEAR
    with pytest.raises(Exception, match="is no longer its own"):
        await two.move(looking, State.GUARD)


async def test_who_comes_between_the_jump_and_its_record_waits_for_that(pair: Pair, site: Site) -> None:
    one, _ = pair
    link = Link(site.address, PATIENT, None, seconds=60, server_clock=ServerClock())

    def joins(alone: bool = False) -> bool:
        return link.write(lambda tx: postgres_clock.joins(tx, alone), nothing, nothing)

    assert joins()
    for by in (2 * HOUR, 0):
        site.step(by)
        assert not joins()
        await one.store.claim("w", 1)
        await one.watch()
        assert joins()
    site.step(2 * HOUR)
    assert joins(alone=True)  # nobody was there; those who come back move nothing any more
    await one.store.claim("w", 1)
    await one.watch()
    assert one.ahead == 0
    link.close()


def _joins(tx: PostgresTx) -> bool:
    return postgres_clock.joins(tx, alone=False)


async def test_who_comes_where_nobody_is_waits_for_nobody(site: Site) -> None:
    first = Replica(site.address)
    await first.store.open()
    await first.store.close()
    site.step(2 * HOUR)
    link = Link(site.address, PATIENT, None, seconds=60, server_clock=ServerClock())
    async with asyncio.timeout(60):
        # A session ends a moment after its connection, and nobody tells of it.
        while not link.write(_joins, nothing, nothing):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    link.close()


async def test_a_replica_says_now_and_then_that_it_lives_by_the_clock(pair: Pair, site: Site) -> None:
    """So one that comes later need not wait, and one that slept knows."""
    async with await psycopg.AsyncConnection.connect(site.address, autocommit=True) as look:

        async def number() -> int:
            row = await (await look.execute("SELECT value FROM meta WHERE key = 'clock'")).fetchone()
            assert row is not None
            return postgres_clock.note(row[0]).number

        joined = 2  # each has said it as the first thing
        async with asyncio.timeout(60):
            while await number() < 2 * joined:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.05)
