"""A clock that jumps takes nothing from the patience of a run, and adds nothing to it."""

from __future__ import annotations

import asyncio

import pytest

from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Instant,
    Millis,
    Outcome,
    Reason,
    State,
)
from tests.engine.test_approval import ASKS, asked, decide
from tests.engine.world import POLICY, START, Rig, World, wait_until

WHEN = POLICY + "when: [{check: world.level, is: '> 500'}]\ngive_up: 30m\n"
VERIFIED = POLICY + "verify:\n  within: 10m\n  checks: [{check: world.level, is: '< 50'}]\n"
BOTH_WAYS = pytest.mark.parametrize("by", [Millis(2 * HOUR), Millis(-2 * HOUR)])


async def jump(rig: Rig, by: Millis) -> None:
    """As the watch of the clock does it, and a person who has looked resumes."""
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="jumped", actor="daemon", since=rig.clock.now())
    await rig.store.jumped(by, pause, AuditEvent(kind="control.paused"))
    rig.clock.set(Instant(rig.clock.now() + by))
    await rig.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))


@BOTH_WAYS
async def test_a_wait_gives_up_when_it_would_have(by: Millis) -> None:
    async with Rig(WHEN) as rig:
        await rig.fire()
        await rig.until(10 * MINUTE)
        await jump(rig, by)
        await rig.until(by + 29 * MINUTE)
        assert (await rig.run()).reason is Reason.CHECK_FALSE
        await rig.until(by + 30 * MINUTE)
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.GAVE_UP)


@BOTH_WAYS
async def test_work_may_settle_for_as_long_as_before(by: Millis) -> None:
    async with Rig(world=World(unsettled=10_000)) as rig:
        await rig.fire()
        await rig.until(2 * MINUTE)
        await jump(rig, by)
        await rig.until(by + 5 * MINUTE - SECOND)
        assert (await rig.run()).state is State.SETTLING
        await rig.until(by + 5 * MINUTE)
        assert (await rig.run()).reason is Reason.SETTLE_TIMEOUT


@BOTH_WAYS
async def test_verify_looks_for_as_long_as_before(by: Millis) -> None:
    async with Rig(VERIFIED) as rig:
        await rig.fire()
        await rig.until(4 * MINUTE)
        await jump(rig, by)
        await rig.until(by + 10 * MINUTE - SECOND)
        assert (await rig.run()).state is State.VERIFY
        await rig.until(by + 10 * MINUTE)
        assert (await rig.run()).reason is Reason.NOT_HEALED


@BOTH_WAYS
async def test_a_jump_under_a_call_that_is_throttled(by: Millis) -> None:
    world = World(faults=["throttle", "slow-throttle", *["throttle"] * 9])
    async with Rig(POLICY + "give_up: 30m\n", world=world, apply_timeout=10) as rig:
        await rig.fire()
        await rig.worker.drain()
        began = (await rig.run()).progress.waiting_since
        assert began == START
        rig.clock.set(Instant(START + 15 * SECOND))
        world.calling.clear()
        working = asyncio.create_task(rig.worker.drain())
        await asyncio.to_thread(wait_until, world.calling.is_set)
        await jump(rig, by)
        world.hold.set()
        await working
        run = await rig.run()
        assert (run.reason, run.progress.waiting_since) == (Reason.TEMPORARY_FAILURE, START + by)
        assert run.next_at is not None
        assert 0 < run.next_at - rig.clock.now() <= MINUTE


@BOTH_WAYS
async def test_an_approval_that_was_not_used_is_asked_for_again(by: Millis) -> None:
    """Forward its time is over; back nobody knows how old it is."""
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        first = await decide(rig)
        await jump(rig, by)
        await rig.until(by + 2 * MINUTE)
        assert rig.world.calls == []
        again = await asked(rig)
        assert again.id != first.id
        assert f"approval {first.id}: it " in again.data["again"]
        await decide(rig, Decision.APPROVED)
        await rig.until(by + 3 * MINUTE)
        assert len(rig.world.calls) == 1


async def test_a_correction_of_the_clock_takes_no_approval_back() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig)
        rig.clock.set(Instant(rig.clock.now() - 2 * SECOND))
        async with asyncio.timeout(20):
            await rig.until(2 * MINUTE)
        assert len(rig.world.calls) == 1
