"""A clock that jumps is not believed before somebody has taken notice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from remediator.clock import SteadyClock, beat
from remediator.contracts import Store
from remediator.engine.upkeep import ClockWatch
from remediator.errors import StoreUnavailable
from remediator.model import (
    DAEMON,
    HOUR,
    JUMP,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Message,
    Millis,
    Severity,
)
from remediator.store import open_store
from tests.engine.world import START, Rig


@dataclass
class Hardware:
    """A wall clock and the time that has passed, in milliseconds."""

    wall: int = START
    passed: int = 0

    def tick(self, millis: int, jump: int = 0) -> None:
        self.passed += millis
        self.wall += millis + jump

    def clock(self) -> SteadyClock:
        return SteadyClock(JUMP, lambda: self.wall * 1_000_000, lambda: self.passed * 1_000_000)


def test_it_follows_the_wall_clock_and_its_small_corrections() -> None:
    hardware = Hardware()
    clock = hardware.clock()
    hardware.tick(10 * SECOND, jump=-4 * SECOND)
    assert clock.now() == START + 6 * SECOND
    assert clock.jump() == 0


def test_a_jump_is_held_back_until_it_is_accepted() -> None:
    for jump in (2 * HOUR, -2 * HOUR):
        hardware = Hardware()
        clock = hardware.clock()
        hardware.tick(SECOND, jump=jump)
        assert clock.now() == START + SECOND
        hardware.tick(SECOND)
        assert clock.now() == START + 2 * SECOND
        assert clock.jump() == jump
        clock.accept()
        assert clock.now() == START + 2 * SECOND + jump
        assert clock.jump() == 0


async def test_the_pause_is_written_before_anybody_sees_the_new_time() -> None:
    hardware = Hardware()
    clock = hardware.clock()
    async with Rig() as rig:
        watch = ClockWatch(rig.store, clock)
        await watch()
        assert await rig.store.controls() == []
        hardware.tick(SECOND, jump=2 * HOUR)
        assert clock.now() == START + SECOND
        await watch()
        (pause,) = await rig.store.controls()
        assert (pause.kind, pause.scope) == (ControlKind.PAUSE, "")
        assert "+2h" in pause.reason
        assert clock.now() == START + SECOND + 2 * HOUR
        assert Millis(clock.jump()) == 0


@pytest.mark.parametrize("by", [Millis(2 * HOUR), Millis(-2 * HOUR)])
async def test_a_jump_is_followed_once_though_it_is_told_twice(by: Millis) -> None:
    """The answer to the first may have been lost. What was due is due, before and after."""
    hardware = Hardware()
    clock = hardware.clock()
    store = open_store("sqlite://", clock, receivers={})
    await store.open()
    call = Message(chain=DAEMON, severity=Severity.P1, subject="s", body="b")
    await store.record((), (call,))
    hardware.tick(SECOND, jump=by)
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="r", actor="daemon", since=clock.now())
    for _ in range(2):
        await store.jumped(by, pause, AuditEvent(kind="control.paused"), (), clock)
        assert clock.now() == START + SECOND + by
        assert [one.message for one in await store.due_messages(10)] == [call]
    await store.close()


async def test_of_several_who_see_a_database_clock_jump_one_says_so() -> None:
    async with Rig() as rig:
        watches = [ClockWatch(rig.store), ClockWatch(rig.store)]
        for watch in watches:
            await watch()
        rig.clock.set(Instant(START + 2 * HOUR))
        for watch in watches:
            await watch()
        (event,) = [one.event for one in await rig.events() if one.event.kind == "control.paused"]
        assert "the clock jumped by +" in str(event.observed)
        (told,) = await rig.store.due_messages(10)
        assert told.message.chain == DAEMON
        for watch in watches:  # from here on it is no news
            await watch()
        assert (await rig.story()).count("control.paused") == 1


class Away:
    """A store that cannot be reached for the first pause."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tried = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def set_control(self, *args: Any) -> None:
        if not self._tried:
            self._tried = True
            raise StoreUnavailable("not now")
        await self._store.set_control(*args)


async def test_a_jump_is_not_forgotten_while_the_store_is_away() -> None:
    async with Rig() as rig:
        watch = ClockWatch(cast(Store, Away(rig.store)))
        await watch()
        rig.clock.set(Instant(START + 2 * HOUR))
        with pytest.raises(StoreUnavailable):
            await watch()
        await watch()
        (pause,) = await rig.store.controls()
        assert (pause.kind, pause.scope) == (ControlKind.PAUSE, "")


@pytest.mark.parametrize("seconds", [0.5, 0.1, 0.3, 0.007])
async def test_a_beat_is_ahead_and_comes_again_and_again(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3):
        now = loop.time()
        found = beat(seconds)
        assert now < found <= loop.time() + seconds + 1e-9
        assert found / seconds == pytest.approx(round(found / seconds))  # common to all who ask
        await asyncio.sleep(found - now)
