"""What the engine makes of a provider that misbehaves: never twice, never forgotten."""

from __future__ import annotations

from remediator.model import (
    MINUTE,
    SECOND,
    ControlKind,
    IntentOutcome,
    Outcome,
    Reason,
    State,
)
from tests.engine.world import POLICY, START, Rig, World

BY_TOKEN = POLICY.replace("world.resize", "world.resize_by_token")


def rig(*faults: str, policy: str = POLICY, **world: object) -> Rig:
    return Rig(policy, world=World(faults=list(faults), **world))  # type: ignore[arg-type]


async def test_a_throttled_call_is_tried_again_and_only_what_was_applied_counts() -> None:
    async with rig("throttle", "throttle", policy=POLICY + "limits: {per_target: [1 per 1h]}\n") as r:
        await r.fire()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        assert [size for _, size, _ in r.world.calls] == [5]
        outcomes = [intent.outcome for intent in await r.store.intents(run.id)]
        assert outcomes == [IntentOutcome.NOT_APPLIED, IntentOutcome.NOT_APPLIED, IntentOutcome.APPLIED]


async def test_a_throttled_call_is_not_repeated_once_the_alert_has_resolved() -> None:
    async with rig("throttle") as r:
        await r.fire()
        await r.worker.drain()
        await r.resolve()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.CANCELLED, Reason.ALERT_RESOLVED)
        assert r.world.calls == []


async def test_throttled_for_ever_is_handed_to_a_person() -> None:
    async with rig(*["throttle"] * 500) as r:
        await r.fire()
        await r.until(60 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.GAVE_UP)
        assert "throttled" in run.observed
        assert len(await r.called()) == 1


async def test_a_denied_call_is_escalated_and_not_repeated() -> None:
    async with rig("deny") as r:
        await r.fire()
        await r.until(60 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_FAILED)
        assert "access denied" in run.observed
        assert len(await r.store.intents(run.id)) == 1
        assert await r.store.locks() == {}


async def test_a_lost_answer_is_reconciled_by_looking() -> None:
    async with rig("lost-after") as r:
        await r.fire()
        await r.until(10 * SECOND)
        run = await r.run()
        assert run.state is State.UNKNOWN
        assert "world/earth/gpu" in await r.store.locks()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        assert [size for _, size, _ in r.world.calls] == [5]
        looked = next(e for e in await r.events(run.id) if e.event.kind == "action.reconciled")
        assert looked.at >= START + 30 * SECOND  # not before the call can no longer land


async def test_a_call_that_was_not_applied_and_cannot_be_repeated_quarantines_the_target() -> None:
    async with rig("lost-before") as r:
        await r.fire()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)
        assert r.world.calls == []
        (control,) = await r.store.controls()
        assert (control.kind, control.scope) == (ControlKind.QUARANTINE, "target:world/earth/gpu")
        assert await r.store.locks() == {"world/earth/gpu": run.id}


async def test_a_quarantined_target_is_refused_to_every_policy() -> None:
    async with rig("lost-before") as r:
        await r.fire()
        await r.until(5 * MINUTE)
        await r.fire(pod="another")
        await r.until(10 * MINUTE)
        second = (await r.runs())[1]
        assert (second.outcome, second.reason) == (Outcome.REFUSED, Reason.QUARANTINED)
        assert r.world.calls == []


async def test_where_the_provider_deduplicates_it_is_issued_again_with_the_same_token() -> None:
    async with rig("lost-before", policy=BY_TOKEN) as r:
        await r.fire()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        (intent,) = await r.store.intents(run.id)
        assert [token for _, _, token in r.world.calls] == [intent.token]
        assert intent.outcome is IntentOutcome.APPLIED


async def test_a_hung_call_is_unknown_and_its_late_outcome_is_evidence_only() -> None:
    async with rig("hang") as r:
        await r.fire()
        await r.worker.drain()
        assert (await r.run()).state is State.UNKNOWN
        r.world.hold.set()
        for _ in range(200):
            if "action.late" in await r.story():
                break
            import asyncio

            await asyncio.sleep(0.01)
        assert "action.late" in await r.story()
        assert (await r.run()).state is State.UNKNOWN
        await r.until(5 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert [size for _, size, _ in r.world.calls] == [5]


async def test_a_fault_in_an_action_is_ambiguous_never_repeated() -> None:
    async with rig("bug") as r:
        await r.fire()
        await r.worker.drain()
        run = await r.run()
        assert run.state is State.UNKNOWN
        assert "KeyError" in run.observed


async def test_a_change_by_a_person_in_between_is_noticed() -> None:
    async with rig() as r:
        original = r.world.resize

        def change_first(*args: object) -> None:
            r.world.sizes["gpu"] = 7
            original(*args)  # type: ignore[arg-type]

        r.world.resize = change_first  # type: ignore[method-assign, assignment]
        await r.fire()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.CHANGED_BY_PERSON)
        assert r.world.sizes["gpu"] == 7


async def test_settling_takes_its_time() -> None:
    async with rig(unsettled=4) as r:
        await r.fire()
        await r.until(SECOND)
        assert (await r.run()).state is State.SETTLING
        await r.until(5 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_what_never_settles_is_escalated() -> None:
    async with rig(unsettled=10_000) as r:
        await r.fire()
        await r.until(20 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.SETTLE_TIMEOUT)
        assert "still working" in run.observed
