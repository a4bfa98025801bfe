"""Mode approve: a person is asked, decides once, and only what was approved is done."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.engine.case import Rules
from remediator.engine.link import Links
from remediator.errors import Conflict
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    Approval,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Outcome,
    Reason,
    State,
)
from remediator.settings import Approvals
from tests.engine.world import POLICY, START, Rig

ASKS = (
    POLICY.replace("mode: enforce", "mode: approve")
    + "approval: {role: manager, expires: 15m}\nlimits: {cooldown: 0s, blast_radius: 90%}\n"
)
LADDER = (
    ASKS.replace(
        "add: 2, max: 10}\n",
        'add: 2, max: 10}\n  - action: world.resize\n    with: {group: "${labels.group}", add: 4, max: 10}\n',
    )
    + "verify:\n  within: 1m\n  checks: [{check: world.level, is: '< 50'}]\n"
)
KEY = b"a key of the tests, long enough"


async def decide(rig: Rig, decision: Decision = Decision.APPROVED, by: str = "alice") -> Approval:
    """Answer the newest question."""
    asked = (await rig.store.approvals(limit=1))[0]
    event = AuditEvent(kind=f"approval.{decision}", actor=by, observed="looked at it")
    return await rig.store.decide(asked.id, decision, event)


async def asked(rig: Rig) -> Approval:
    """The one open question."""
    (found,) = await rig.store.approvals(open=True)
    return found


async def test_nothing_is_done_until_somebody_approves() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(5 * MINUTE)
        run = await rig.run()
        assert (run.state, run.reason, run.next_at) == (
            State.APPROVAL, Reason.APPROVAL_PENDING, START + 15 * MINUTE,
        )  # fmt: skip
        assert rig.world.calls == []
        question = await asked(rig)
        assert (question.plan.before, question.plan.after) == ({"size": 3}, {"size": 5})
        assert (question.role, question.expires_at) == ("manager", START + 15 * MINUTE)
        await decide(rig)
        await rig.until(6 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5]
        assert (await rig.run()).outcome is Outcome.SUCCEEDED
        story = await rig.story(run.id)
        wanted = ["approval.asked", "approval.approved", "run.admitted", "action.applied"]
        assert [kind for kind in story if kind in wanted] == wanted
        (admitted,) = [one.event for one in await rig.events() if one.event.kind == "run.admitted"]
        assert admitted.data["approval"] == question.id


async def test_the_message_has_the_plan_the_link_and_the_commands() -> None:
    rules = Rules(Approvals(), Links([KEY], "https://r.example.com/"))
    async with Rig(ASKS + "escalate: on-call\n", approvals=rules, chains=True) as rig:
        await rig.fire()
        await rig.until(SECOND)
        question = await asked(rig)
        (due,) = await rig.store.due_messages(10)
        text = due.message.body
        assert due.message.chain == "on-call"
        assert "world.resize on world:gpu: size=3 → size=5" in text
        assert "2 of 10 members (20%)" in text
        assert f"https://r.example.com/approvals/{question.id}.{question.expires_at}." in text
        assert f"remediator runs approve {question.run} --approval {question.id} --comment" in text
        token = text.partition("/approvals/")[2].split()[0]
        assert rules.links.read(token) == (question.id, question.expires_at)


async def test_without_a_key_the_message_has_no_link() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(SECOND)
        (due,) = await rig.store.due_messages(10)
        assert "/approvals/" not in due.message.body
        assert "remediator runs approve" in due.message.body


async def test_rejected() -> None:
    async with Rig(ASKS + "escalate: on-call\n", chains=True) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig, Decision.REJECTED, by="mary")
        await rig.until(MINUTE)
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.APPROVAL_REJECTED)
        assert run.observed == "mary rejected it: looked at it"
        assert rig.world.calls == []
        (told,) = await rig.called()
        assert "refused, because approval_rejected" in told.body


async def test_expired() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(15 * MINUTE - 1)
        assert (await rig.run()).open
        await rig.until(15 * MINUTE)
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.APPROVAL_EXPIRED)
        (question,) = await rig.store.approvals()
        assert question.decision is Decision.EXPIRED
        assert "approval.expired" in await rig.story(run.id)
        with pytest.raises(Conflict, match="expired"):
            await decide(rig)


async def test_it_cannot_be_approved_after_its_time_although_nobody_has_looked_yet() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        rig.clock.set(START + 15 * MINUTE)
        with pytest.raises(Conflict, match="expired"):
            await decide(rig)
        await rig.until(16 * MINUTE)
        assert (await rig.run()).reason is Reason.APPROVAL_EXPIRED
        assert rig.world.calls == []


async def test_an_approval_is_used_once() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig, by="alice")
        with pytest.raises(Conflict, match=r"was approved by alice at 2027-.*: looked at it"):
            await decide(rig, Decision.REJECTED, by="bob")
        await rig.until(2 * MINUTE)
        with pytest.raises(Conflict, match="was approved by alice"):
            await decide(rig)
        assert len(rig.world.calls) == 1


async def test_a_resolve_before_the_decision_withdraws_the_question() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await rig.resolve()
        await rig.until(2 * MINUTE)
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.CANCELLED, Reason.ALERT_RESOLVED)
        (question,) = await rig.store.approvals()
        assert question.decision is Decision.WITHDRAWN
        with pytest.raises(Conflict, match="no longer asked: the run has ended: cancelled"):
            await decide(rig)


async def test_a_resolve_after_the_decision_and_before_the_action_cancels() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig)
        await rig.resolve()
        await rig.until(2 * MINUTE)
        assert (await rig.run()).reason is Reason.ALERT_RESOLVED
        assert rig.world.calls == []


async def test_cancelling_by_hand_withdraws_the_question() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await rig.store.cancel((await rig.run()).id, AuditEvent(kind="run.cancelled", actor="alice"))
        assert [one.decision for one in await rig.store.approvals()] == [Decision.WITHDRAWN]


async def test_a_smaller_plan_in_the_same_direction_is_not_asked_again() -> None:
    async with Rig(ASKS) as rig:
        rig.world.sizes["gpu"] = 7
        await rig.fire()
        await rig.until(MINUTE)
        assert (await asked(rig)).plan.after == {"size": 9}
        rig.world.sizes["gpu"] = 9  # so that it can only grow to 10: one member instead of two
        await decide(rig)
        await rig.until(2 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [10]
        assert len(await rig.store.approvals()) == 1


async def test_a_greater_plan_is_asked_again() -> None:
    async with Rig(ASKS) as rig:
        rig.world.sizes["gpu"] = 9
        await rig.fire()
        await rig.until(MINUTE)
        rig.world.sizes["gpu"] = 3
        await decide(rig)
        await rig.until(2 * MINUTE)
        assert rig.world.calls == []
        question = await asked(rig)
        assert question.plan.after == {"size": 5}
        assert "touches 2 members, approved were 1" in question.data["again"]
        assert question.expires_at == START + 16 * MINUTE
        await decide(rig)
        await rig.until(3 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5]


async def test_another_target_is_asked_again() -> None:
    async with Rig(ASKS) as rig:
        rig.world.sizes["other"] = 3
        await rig.fire()
        await rig.until(MINUTE)
        rig.world.aliases["gpu"] = "other"  # the name now leads elsewhere
        await decide(rig)
        await rig.until(2 * MINUTE)
        assert rig.world.calls == []
        assert (await asked(rig)).plan.target.key == "world/earth/other"


async def test_an_approval_does_not_keep() -> None:
    """A pause outlasts it: what was approved an hour ago is asked again."""
    policy = ASKS + "give_up: 3h\n"
    async with Rig(policy) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        pause = Control(kind=ControlKind.PAUSE, scope="", reason="drill", actor="bob", since=rig.clock.now())
        await rig.store.set_control(pause, AuditEvent(kind="control.paused", actor="bob"))
        await decide(rig)
        await rig.until(HOUR)
        assert (await rig.run()).reason is Reason.PAUSED
        await rig.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed", actor="bob"))
        await rig.until(HOUR + MINUTE)
        assert rig.world.calls == []
        assert "had to be used by" in (await asked(rig)).data["again"]


async def test_the_steps_of_one_action_are_asked_for_once() -> None:
    policy = ASKS.replace("add: 2", "add: 6, by: 2")
    async with Rig(policy) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        question = await asked(rig)
        assert (question.plan.after, question.plan.blast.amount, question.steps) == ({"size": 9}, 6, 3)
        await decide(rig)
        await rig.until(HOUR)
        assert [after for _, after, _ in rig.world.calls] == [5, 7, 9]
        assert len(await rig.store.approvals()) == 1


async def test_each_rung_is_asked_for_by_itself() -> None:
    policy = LADDER
    async with Rig(policy) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        first = await decide(rig)
        await rig.until(5 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5]
        second = await asked(rig)
        assert (first.rung, second.rung) == (0, 1)
        assert second.plan.after == {"size": 9}
        await decide(rig, Decision.REJECTED)
        await rig.until(6 * MINUTE)
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.APPROVAL_REJECTED)
        assert len(rig.world.calls) == 1


async def test_the_same_action_on_the_next_rung_is_asked_for_as_well() -> None:
    async with Rig(LADDER.replace("add: 4", "add: 2")) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig)
        await rig.until(5 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5]
        assert (await asked(rig)).rung == 1
        await decide(rig)
        await rig.until(10 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5, 7]


async def test_a_refusal_of_the_second_rung_puts_the_first_back_without_asking() -> None:
    policy = LADDER + "on_failure: revert\n"
    async with Rig(policy) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig)
        await rig.until(5 * MINUTE)
        await decide(rig, Decision.REJECTED)
        await rig.until(10 * MINUTE)
        assert [after for _, after, _ in rig.world.calls] == [5, 3]
        assert (await rig.run()).outcome is Outcome.REVERTED


async def test_a_throttled_call_is_tried_again_under_the_same_approval() -> None:
    async with Rig(ASKS) as rig:
        rig.world.faults = ["throttle"]
        await rig.fire()
        await rig.until(MINUTE)
        await decide(rig)
        await rig.until(5 * MINUTE)
        assert len(rig.world.calls) == 1
        assert len(await rig.store.approvals()) == 1


async def test_a_removed_policy_cancels_although_it_was_approved() -> None:
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        await rig.load({"other.yaml": ASKS.replace("name: queue", "name: other")})
        await decide(rig)
        await rig.until(2 * MINUTE)
        assert (await rig.run()).reason is Reason.POLICY_REMOVED
        assert rig.world.calls == []


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (ASKS.replace("name: queue", "name: other"), Reason.POLICY_REMOVED),
        (ASKS.replace("mode: approve", "mode: observe"), Reason.POLICY_DEMOTED),
    ],
)
async def test_a_question_ends_with_its_policy(after: str, reason: Reason) -> None:
    """At once: nobody is to get up for what will not be done whatever he says."""
    async with Rig(ASKS) as rig:
        await rig.fire()
        await rig.until(MINUTE)
        question = await asked(rig)
        await rig.load({"other.yaml" if "other" in after else "queue.yaml": after})
        await rig.worker.drain()
        run = await rig.run()
        assert (run.outcome, run.reason) == (Outcome.CANCELLED, reason)
        assert await rig.store.approvals(open=True) == []
        assert (await rig.store.approval(question.id)).decision is Decision.WITHDRAWN
        with pytest.raises(Conflict, match=r"no longer asked: the run has ended: cancelled, for .+"):
            await decide(rig)


@pytest.mark.parametrize(
    ("limits", "reason", "free"),
    [
        ("limits: {cooldown: 0s, budget: [1 per 10m], blast_radius: 90%}", Reason.BUDGET, 10 * MINUTE),
        ("limits: {cooldown: 7m, budget: [9 per 10m], blast_radius: 90%}", Reason.COOLDOWN, 7 * MINUTE),
    ],
)
async def test_nobody_is_asked_for_what_would_have_to_wait(limits: str, reason: Reason, free: int) -> None:
    before = ASKS.partition("limits:")[0]
    async with Rig(f"{before}{limits}\n") as rig:
        await rig.fire()
        await rig.until(0)
        await decide(rig)
        await rig.until(SECOND)
        assert len(rig.world.calls) == 1
        await rig.resolve()
        await rig.fire(since=rig.clock.now(), instance="again")
        await rig.until(free - SECOND)
        second = (await rig.runs())[1]
        assert (second.state, second.reason) == (State.GUARD, reason)
        assert second.observed
        assert await rig.store.approvals(open=True) == []
        await rig.until(free)
        assert (await asked(rig)).run == second.id


async def test_nothing_to_do_asks_nobody() -> None:
    async with Rig(ASKS) as rig:
        rig.world.sizes["gpu"] = 10
        await rig.fire()
        await rig.until(MINUTE)
        assert (await rig.run()).outcome is Outcome.NOTHING_TO_DO
        assert await rig.store.approvals() == []


@pytest.mark.parametrize(
    ("settings", "severity", "role"),
    [
        ({}, "P3", "manager"),  # the policy's own
        ({"actions": {"world.*": 3}}, "P3", "lead"),
        ({"actions": {"world.*": 1, "*.resize": 4}}, "P3", "admin"),
        ({}, "P1", "lead"),  # an emergency
        ({"severities": {}}, "P1", "manager"),
        ({"levels": {1: "lead", 2: "lead"}}, "P3", "lead"),
    ],
)
async def test_the_higher_of_policy_and_level_is_asked(
    settings: dict[str, Any], severity: str, role: str
) -> None:
    rules = Rules(Approvals.model_validate(settings), Links())
    async with Rig(ASKS + f"severity: {severity}\n", approvals=rules) as rig:
        await rig.fire()
        await rig.until(SECOND)
        assert (await asked(rig)).role == role
