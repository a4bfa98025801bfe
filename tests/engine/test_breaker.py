"""A policy that does not heal loses its licence until a person gives it back; one that heals the same thing
again and again calls a person."""

from __future__ import annotations

import pytest

from remediator.model import (
    HOUR,
    MINUTE,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Instant,
    Outcome,
    Reason,
    State,
)
from tests.engine.world import POLICY, START, Rig, World

FREE = "limits: {cooldown: 0s, per_target: [99 per 1h], budget: [99 per 1h]}\ngive_up: 10m\n"
VERIFY = "verify: {within: 1m, checks: [{check: world.level, is: '< 50'}]}\n"
LIMITS = "breaker: {ineffective: 3, demote_to: observe}\nglobal: {budget: [100 per 1h], concurrent: 9}\n"
TWO_RUNGS = (
    POLICY
    + '  - action: world.resize\n    with: {group: "${labels.group}", add: 4, max: 10}\n'
    + FREE.replace("limits: {", "limits: {blast_radius: 90%, ")
    + VERIFY
)
GROUPS = {f"g{i}": 1 for i in range(20)}


def rig(policy: str = POLICY + FREE + VERIFY, limits: str = LIMITS, **world: object) -> Rig:
    return Rig(policy, limits=limits, world=World(sizes=dict(GROUPS), **world))  # type: ignore[arg-type]


async def one_after_the_other(r: Rig, groups: range, minutes: int = 5) -> None:
    for i in groups:
        await r.fire(group=f"g{i}", since=r.clock.now())
        await r.until(r.clock.now() - START + minutes * MINUTE)


async def restore(r: Rig) -> bool:
    event = AuditEvent(kind="policy.restored", actor="alice", policy="queue")
    return await r.store.clear_control(ControlKind.BREAKER, "policy:queue", event)


async def test_after_three_ineffective_runs_the_policy_only_plans_until_it_is_restored() -> None:
    async with rig() as r:
        await one_after_the_other(r, range(3))
        assert [run.outcome for run in await r.runs()] == [Outcome.ESCALATED] * 3
        (control,) = await r.store.controls()
        assert (control.kind, control.scope) == (ControlKind.BREAKER, "policy:queue")
        await one_after_the_other(r, range(3, 5))
        later = (await r.runs())[3:]
        assert [(run.outcome, run.reason) for run in later] == [(Outcome.OBSERVED, Reason.BREAKER)] * 2
        assert "would run world.resize" in later[0].observed
        assert "3 runs in a row did not heal" in later[0].observed
        assert "policies restore queue" in later[0].allowed
        assert len(r.world.calls) == 3
        assert await restore(r)
        r.world.levels["queue"] = 10.0
        await one_after_the_other(r, range(5, 6))
        assert (await r.runs())[5].outcome is Outcome.SUCCEEDED


async def test_it_is_audited_with_the_last_run_and_people_are_told_once() -> None:
    chain = "chains: {on-call: [{after: 0m, notify: [primary]}]}\n"
    made = rig(POLICY + FREE + VERIFY + "escalate: on-call\n")
    made.files["escalation.yaml"] = chain
    async with made as r:
        await one_after_the_other(r, range(5))
        third = (await r.runs())[2]
        kinds = [kind for kind in await r.story(third.id) if not kind.startswith("incident.")]
        assert kinds[-2:] == ["run.escalated", "breaker.tripped"]
        (event,) = [one.event for one in await r.events() if one.event.kind == "breaker.tripped"]
        assert (event.policy, event.observed, event.allowed) == (
            "queue",
            "3 runs in a row did not heal",
            "fewer than 3",
        )
        told = [one.message for one in await r.store.due_messages(50) if "demoted" in one.message.subject]
        assert [(one.chain, one.subject) for one in told] == [
            ("on-call", "[P3] policy queue is demoted to observe: 3 runs in a row did not heal")
        ]
        assert "remediator policies restore queue" in told[0].body


async def test_a_success_in_between_resets() -> None:
    async with rig() as r:
        await one_after_the_other(r, range(2))
        r.world.levels["queue"] = 10.0
        await one_after_the_other(r, range(2, 3))
        r.world.levels["queue"] = 120.0
        await one_after_the_other(r, range(3, 5))
        assert await r.store.controls() == []
        await one_after_the_other(r, range(5, 6))
        assert len(await r.store.controls()) == 1


@pytest.mark.parametrize(
    ("more", "world", "outcome"),
    [
        ("on_failure: revert\n", {}, Outcome.REVERTED),
        ("", {"levels": {"queue": None}}, Outcome.ESCALATED),
        ("", {"faults": ["deny"] * 3}, Outcome.ESCALATED),
    ],
)
async def test_reverted_unknown_and_failed_are_ineffective(
    more: str, world: dict[str, object], outcome: Outcome
) -> None:
    async with rig(POLICY + FREE + VERIFY + more, **world) as r:
        await one_after_the_other(r, range(3))
        assert [run.outcome for run in await r.runs()] == [outcome] * 3
        assert [control.kind for control in await r.store.controls()] == [ControlKind.BREAKER]


async def test_a_run_that_has_acted_when_the_breaker_opens_finishes() -> None:
    rung = '  - action: world.resize\n    with: {group: "${labels.group}", add: 4, max: 10}\n'
    async with rig(POLICY + rung + FREE + VERIFY, heals={9: 10.0}) as r:
        r.world.sizes["g1"] = 3
        await r.fire(group="g1")
        await r.until(MINUTE // 2)
        broken = Control(
            kind=ControlKind.BREAKER, scope="policy:queue", reason="r", actor="daemon", since=START
        )
        await r.store.trip(broken, AuditEvent(kind="breaker.tripped"))
        await r.until(10 * MINUTE)
        assert len(r.world.calls) == 2
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_demoted_to_approve_it_does_not_act_unasked() -> None:
    async with rig(limits=LIMITS.replace("observe", "approve")) as r:
        await one_after_the_other(r, range(4))
        assert len(r.world.calls) == 3
        run = (await r.runs())[3]
        assert (run.state, run.reason) == (State.APPROVAL, Reason.APPROVAL_PENDING)
        (asked,) = await r.store.approvals(open=True)
        approved = AuditEvent(kind="approval.approved", actor="alice", observed="go")
        await r.store.decide(asked.id, Decision.APPROVED, approved)
        await r.until(r.clock.now() - START + MINUTE)
        assert len(r.world.calls) == 4
        (admitted,) = [
            one.event for one in await r.store.audit(run=run.id) if one.event.kind == "run.admitted"
        ]
        assert admitted.data["approval"] == asked.id


async def test_demoted_to_approve_it_asks_for_the_next_rung_too() -> None:
    """A person has said yes to the first rung, and to nothing else: that the run has acted since gives it
    no licence of its own."""
    async with Rig(TWO_RUNGS) as r:
        broken = Control(
            kind=ControlKind.BREAKER,
            scope="policy:queue",
            reason="r",
            actor="daemon",
            since=START,
            data={"demote_to": "approve"},
        )
        await r.store.trip(broken, AuditEvent(kind="breaker.tripped"))
        await r.fire()
        await r.until(MINUTE)
        (first,) = await r.store.approvals(open=True)
        yes = AuditEvent(kind="approval.approved", actor="alice", observed="go")
        await r.store.decide(first.id, Decision.APPROVED, yes)
        await r.until(10 * MINUTE)
        run = await r.run()
        assert [after for _, after, _ in r.world.calls] == [5]
        assert (run.state, run.progress.rung) == (State.APPROVAL, 1)
        (second,) = await r.store.approvals(open=True)
        await r.store.decide(second.id, Decision.APPROVED, yes)
        await r.until(15 * MINUTE)
        assert [after for _, after, _ in r.world.calls] == [5, 9]


async def test_what_is_healed_again_and_again_is_handed_to_a_person() -> None:
    policy = POLICY + FREE.replace("cooldown", "flapping: 3 per 1h, cooldown")
    async with rig(policy) as r:
        for i in range(4):
            await r.fire(group="g1", since=r.clock.now(), pod=str(i))
            await r.until(r.clock.now() - START + MINUTE)
        *healed, last = await r.runs()
        assert [run.outcome for run in healed] == [Outcome.SUCCEEDED] * 3
        assert (last.outcome, last.reason) == (Outcome.REFUSED, Reason.FLAPPING)
        assert last.observed == "healed 3 times within 1h, and it is back"
        assert last.allowed == "limits.flapping 3 per 1h"
        assert len(r.world.calls) == 3
        assert [one.message.run for one in await r.store.due_messages(50)] == [last.id]
        r.clock.set(Instant(START + HOUR + 2 * MINUTE))
        await r.fire(group="g1", since=r.clock.now(), pod="later")
        await r.until(HOUR + 5 * MINUTE)
        assert len(r.world.calls) == 4


async def test_flapping_has_a_bound_where_none_is_written() -> None:
    async with rig(POLICY + FREE) as r:
        r.world.sizes["g1"] = -50
        for i in range(10):
            await r.fire(group="g1", since=r.clock.now(), pod=str(i))
            await r.until(r.clock.now() - START + 10 * MINUTE)
        assert len(r.world.calls) == 6
        assert {run.reason for run in (await r.runs())[6:]} == {Reason.FLAPPING}
