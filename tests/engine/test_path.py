"""The path of an alert through the engine, on the real store and a driven clock."""

from __future__ import annotations

import pytest

from remediator.model import MINUTE, SECOND, Instant, Outcome, Reason, State, Status
from tests.engine.world import POLICY, START, Rig, World

VERIFIED = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
for: 5m
give_up: 30m
when:
  - {check: world.level, with: {}, is: "> 50"}
remedies:
  - action: world.resize
    with: {group: "${labels.group}", add: 2, max: 10}
verify:
  after: 2m
  within: 20m
  stable_for: 1m
  checks:
    - {check: world.level, with: {}, is: "< 50"}
on_failure: revert
escalate: on-call
"""
ESCALATION = "chains: {on-call: [{after: 0m, notify: [primary]}]}\n"


def rig(text: str = VERIFIED, **world: object) -> Rig:
    made = Rig(text, world=World(**world))  # type: ignore[arg-type]
    made.files["escalation.yaml"] = ESCALATION
    return made


async def test_holds_acts_verifies_and_succeeds() -> None:
    async with rig(heals={5: 10.0}) as r:
        await r.fire()
        await r.until(4 * MINUTE)
        assert r.world.calls == []
        assert (await r.run()).state is State.HOLD
        await r.until(30 * MINUTE)
        run = await r.run()
        assert [(group, size) for group, size, _ in r.world.calls] == [("gpu", 5)]
        assert (run.outcome, run.reason) == (Outcome.SUCCEEDED, Reason.HEALED)
        assert await r.story(run.id) == [
            "run.created",
            "run.admitted",
            "action.applied",
            "action.settled",
            "verify.healed",
            "run.succeeded",
        ]
        applied = next(e for e in await r.events(run.id) if e.event.kind == "action.applied")
        assert applied.at == START + 5 * MINUTE
        assert await r.store.locks() == {}


async def test_a_resolve_cancels_the_hold() -> None:
    async with rig() as r:
        await r.fire()
        await r.until(3 * MINUTE)
        await r.resolve()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.CANCELLED, Reason.ALERT_RESOLVED)
        assert run.updated_at == START + 3 * MINUTE
        assert r.world.calls == []


async def test_a_resolve_after_admission_is_evidence_only() -> None:
    async with rig(heals={5: 10.0}) as r:
        await r.fire()
        await r.until(6 * MINUTE)
        await r.resolve()
        await r.until(30 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_not_healed_is_reverted_and_escalated() -> None:
    async with rig() as r:
        await r.fire()
        await r.until(60 * MINUTE)
        run = await r.run()
        assert [size for _, size, _ in r.world.calls] == [5, 3]
        assert run.outcome is Outcome.REVERTED
        assert run.reason is Reason.NOT_HEALED
        (message,) = await r.called()
        assert message.notifiers == ("primary",)
        assert "world:gpu" in message.subject


async def test_no_data_at_verify_is_not_health_and_the_effect_stays() -> None:
    async with rig() as r:
        await r.fire()
        await r.until(6 * MINUTE)
        r.world.levels["queue"] = None
        await r.until(60 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.VERIFY_UNKNOWN)
        assert r.world.sizes["gpu"] == 5


async def test_no_data_before_acting_is_no_action() -> None:
    async with rig(levels={"queue": None}) as r:
        await r.fire()
        await r.until(60 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.GAVE_UP)
        assert "check_unanswered" in run.observed
        assert r.world.calls == []


async def test_a_false_condition_waits_and_acts_when_it_becomes_true() -> None:
    async with rig(levels={"queue": 10.0}, heals={5: 1.0}) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        assert (await r.run()).reason is Reason.CHECK_FALSE
        r.world.levels["queue"] = 99.0
        await r.until(60 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        waits = [e for e in await r.events() if e.event.kind == "run.waiting"]
        assert [(w.event.observed, w.event.allowed) for w in waits] == [
            ("world.level = 10", "world.level > 50")
        ]


async def test_healthy_must_last() -> None:
    async with rig() as r:
        await r.fire()
        await r.until(8 * MINUTE)
        r.world.levels["queue"] = 10.0
        await r.until(8 * MINUTE + 40 * SECOND)
        r.world.levels["queue"] = 90.0
        await r.until(10 * MINUTE)
        assert (await r.run()).open
        r.world.levels["queue"] = 10.0
        await r.until(20 * MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        assert run.updated_at >= START + 11 * MINUTE


async def test_observe_mode_plans_and_touches_nothing() -> None:
    async with rig(POLICY.replace("enforce", "observe")) as r:
        await r.fire()
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.OBSERVED, Reason.PLANNED_ONLY)
        assert "size=3 → size=5" in run.observed
        assert r.world.calls == []
        assert await r.store.intents(run.id) == []
        assert await r.called() == []


async def test_nothing_to_do_is_told_to_a_person() -> None:
    async with rig(POLICY, sizes={"gpu": 10}) as r:
        await r.fire()
        await r.until(MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.NOTHING_TO_DO
        assert "10 already, at most 10" in run.observed
        assert len(await r.called()) == 1


async def test_never_beyond_the_maximum() -> None:
    async with rig(POLICY, sizes={"gpu": 9}) as r:
        await r.fire()
        await r.until(MINUTE)
        assert r.world.sizes["gpu"] == 10


async def test_an_absent_label_is_refused_by_name() -> None:
    text = POLICY.replace("labels.group", "labels.grupo")
    async with rig(text) as r:
        await r.fire()
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.UNKNOWN_LABEL)
        assert "grupo" in run.observed + run.allowed
        assert run.target is None


@pytest.mark.parametrize("value", ["gpu; rm -rf /", "${labels.x}", "GPU", "x" * 2000, "a\nb", "*"])
async def test_a_label_named_like_an_attack_is_refused(value: str) -> None:
    async with rig(POLICY) as r:
        await r.fire(group=value)
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.INVALID_PARAMETER)
        assert r.world.calls == []


async def test_a_missing_target_is_refused() -> None:
    async with rig(POLICY) as r:
        await r.fire(group="elsewhere")
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.MISSING_TARGET)


async def test_blast_radius_is_a_refusal() -> None:
    async with rig(POLICY + "limits: {blast_radius: 10%}\n") as r:
        await r.fire()
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.BLAST_RADIUS)
        assert (run.observed, run.allowed) == ("2 of 10 members", "limits.blast_radius 10%")


async def test_the_whole_policy_counts_against_blast_radius_step_by_step() -> None:
    text = POLICY.replace("add: 2, max: 10", "add: 6, max: 10, by: 2") + "limits: {blast_radius: 40%}\n"
    async with rig(text) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert [size for _, size, _ in r.world.calls] == [5, 7]
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.BLAST_RADIUS)


async def test_at_the_blast_radius_a_gradual_change_stops_and_verify_says_whether_it_was_enough() -> None:
    text = POLICY.replace("add: 2, max: 10", "add: 6, max: 10, by: 2") + (
        "limits: {blast_radius: 40%}\n"
        'verify: {within: 5m, checks: [{check: world.level, with: {}, is: "< 50"}]}\n'
    )
    async with rig(text, heals={7: 10.0}) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert [size for _, size, _ in r.world.calls] == [5, 7]
        assert run.outcome is Outcome.SUCCEEDED
        bounded = next(e.event for e in await r.events() if e.event.kind == "action.bounded")
        assert (bounded.observed, bounded.allowed) == ("6 of 10 members", "limits.blast_radius 40%")


async def test_a_gradual_change_is_one_action_in_the_budget_and_an_intent_a_step() -> None:
    text = POLICY.replace("add: 2, max: 10", "add: 4, max: 10, by: 2") + "limits: {per_target: [1 per 1h]}\n"
    async with rig(text) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        run = await r.run()
        assert [size for _, size, _ in r.world.calls] == [5, 7]
        assert run.outcome is Outcome.SUCCEEDED
        intents = await r.store.intents(run.id)
        assert [(i.number, i.counted) for i in intents] == [(0, True), (1, False)]
        assert len({i.token for i in intents}) == 2


async def test_hold_counts_from_the_start_of_the_alert() -> None:
    async with rig(heals={5: 10.0}) as r:
        r.clock.set(Instant(START + 4 * MINUTE))
        await r.fire(since=START)
        await r.until(5 * MINUTE + SECOND)
        assert len(r.world.calls) == 1


async def test_a_closed_alert_cancels_like_a_resolved_one() -> None:
    async with rig() as r:
        await r.fire()
        await r.fire(status=Status.CLOSED)
        await r.until(10 * MINUTE)
        run = await r.run()
        assert (run.outcome, run.observed) == (Outcome.CANCELLED, "alert is closed")
