"""The permission to call: what makes it void, and what a refusal of a call issued again proves."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from remediator.engine.threads import Threads
from remediator.errors import Temporary
from remediator.model import (
    MINUTE,
    AuditEvent,
    Control,
    ControlKind,
    IntentOutcome,
    Outcome,
    Reason,
    State,
)
from tests.engine.world import POLICY, Rig, World

BY_TOKEN = POLICY.replace("world.resize", "world.resize_by_token")
CONDITIONAL = POLICY.replace("world.resize", "world.resize_if_same")


async def test_a_permission_that_has_become_old_is_not_used() -> None:
    async with Rig() as r:
        await r.fire()
        (run,) = await r.store.claim("w", 1)
        action = r.known.action("world.resize")
        assert action is not None
        params = action.params(group="gpu", add=2, max=10)
        execute = r.worker._tools.execute
        observed = await execute.observe(action, params, r.clock.now(), None)
        plan = action.plan(observed, params, ())

        async def call(begin_by: float) -> None:
            await execute.apply(
                action, plan, "token", r.clock.now(), None, lambda value, error: None, begin_by=begin_by
            )

        with pytest.raises(Temporary, match="1s too old"):
            await call(time.monotonic() - 1)
        assert r.world.calls == []
        await call(time.monotonic() + 1)
        assert r.world.calls == [("gpu", 5, "token")]
        await r.store.release([run])


async def test_an_answer_that_is_there_counts_although_its_time_is_up() -> None:
    """A process that was stopped in a call finds the answer and the deadline at the same moment."""
    late: list[object] = []
    go = threading.Event()

    def work() -> str:
        go.wait(5)
        return "it went through"

    call = asyncio.create_task(Threads().call(work, 0.05, lambda value, error: late.append(value)))
    await asyncio.sleep(0.01)
    go.set()
    time.sleep(0.3)  # noqa: ASYNC251 - the loop stands still, too
    assert await call == "it went through"
    assert late == []


async def test_a_late_outcome_is_kept_also_when_the_store_is_away_just_then() -> None:
    async with Rig(world=World(faults=["hang"])) as r:
        await r.fire()
        await r.worker.drain()
        assert (await r.run()).state is State.UNKNOWN
        r.link.away = 1
        r.world.hold.set()
        async with asyncio.timeout(20):
            while "action.late" not in await r.story():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        assert r.link.away == 0
        assert (await r.run()).state is State.UNKNOWN


async def test_a_call_issued_again_and_refused_is_looked_at_again() -> None:
    """The refusal proves that the second call did nothing; here the first had done it."""
    async with Rig(CONDITIONAL, world=World(faults=["lost-before", "overtaken"])) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        (intent,) = await r.store.intents(run.id)
        assert intent.outcome is IntentOutcome.APPLIED
        story = await r.story(run.id)
        assert story.count("action.unknown") == 2
        assert story.count("action.reconciled") == 2


async def test_a_call_issued_again_and_throttled_is_looked_at_again() -> None:
    """A fresh intent would have a token of its own, which deduplicates nothing if the first call lands."""
    async with Rig(BY_TOKEN, world=World(faults=["lost-before", "throttle"])) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        (intent,) = await r.store.intents(run.id)
        assert intent.outcome is IntentOutcome.APPLIED
        assert [token for _, _, token in r.world.calls] == [intent.token]
        assert (await r.story(run.id)).count("action.unknown") == 2


@pytest.mark.parametrize("kind", [ControlKind.PAUSE, ControlKind.QUARANTINE])
async def test_a_brake_set_after_the_look_holds_a_call_from_being_issued_again(kind: ControlKind) -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"])) as r:

        async def brake() -> None:
            control = Control(
                kind=kind, scope="target:world/earth/gpu", reason="odd", actor="alice", since=r.clock.now()
            )
            await r.store.set_control(control, AuditEvent(kind="control.set", actor="alice"))

        r.link.before_reissue = brake
        await r.fire()
        await r.until(5 * MINUTE)
        assert r.world.calls == []
        run = await r.run()
        if kind is ControlKind.PAUSE:
            assert (run.state, run.reason) == (State.UNKNOWN, Reason.PAUSED)
            (waits,) = [one.event for one in await r.events(run.id) if one.event.kind == "run.waiting"]
            assert (waits.reason, waits.allowed) == (Reason.PAUSED, "not paused")
            assert waits.observed == "target:world/earth/gpu: odd (by alice)"
            await r.store.clear_control(kind, "target:world/earth/gpu", AuditEvent(kind="control.resumed"))
            await r.until(10 * MINUTE)
            assert len(r.world.calls) == 1
        else:
            assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)


async def test_a_first_call_that_is_refused_was_not_applied() -> None:
    async with Rig(CONDITIONAL, world=World(faults=["overtaken"])) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.ESCALATED
        (intent,) = await r.store.intents(run.id)
        assert intent.outcome is IntentOutcome.NOT_APPLIED
