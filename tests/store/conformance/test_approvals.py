"""Approvals: asked in the transaction of the move, decided once, and re-checked by ADMIT."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from remediator.errors import Conflict, LeaseLost, NotFound
from remediator.model import (
    HOUR,
    MINUTE,
    Approval,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Instant,
    IntentKind,
    IntentOutcome,
    Message,
    Millis,
    Mode,
    Outcome,
    Reason,
    Run,
    Severity,
    State,
)
from tests.store.world import START, World, plan

FIVE = Instant(START + 5 * MINUTE)


@pytest.fixture
async def armed(world: World) -> World:
    await world.activate()
    return world


async def question(world: World, run: Run, **more: Any) -> Approval:
    now = world.now
    return Approval(
        id=await world.store.approval_number(),
        run=run.id,
        plan=plan(f"k:{run.target}", run.target or ""),
        role="manager",
        asked_at=now,
        expires_at=Instant(now + 5 * MINUTE),
        data={"evidence": {"level": [1, 2]}},
        **more,
    )


async def asking(world: World, name: str = "a", **more: Any) -> tuple[Run, Approval]:
    """A run that waits for an answer, and its question."""
    run = await world.start(name, mode=Mode.APPROVE)
    asked = await question(world, run, **more)
    moved = await world.move(run, State.APPROVAL, next_at=asked.expires_at, ask=asked)
    return moved, asked


async def decide(
    world: World, asked: Approval, decision: Decision = Decision.APPROVED, by: str = "alice"
) -> Approval:
    event = AuditEvent(kind=f"approval.{decision}", actor=by, observed="because")
    return await world.store.decide(asked.id, decision, event)


async def test_a_question_is_written_with_the_move_and_its_message(armed: World) -> None:
    run = await armed.start("a", mode=Mode.APPROVE)
    asked = await question(armed, run, rung=1, step=2, steps=3, started_by="bob")
    told = Message(chain="c", severity=Severity.P2, subject="s", body="b", run=run.id)
    await armed.move(run, State.APPROVAL, next_at=asked.expires_at, ask=asked, messages=(told,))
    assert await armed.store.approval(asked.id) == asked
    assert await armed.store.approvals(run=run.id) == [asked]
    assert await armed.store.approvals(open=True) == [asked]
    assert await armed.store.approvals(open=False) == []
    assert [one.message for one in await armed.store.due_messages(5)] == [told]


async def test_a_lost_lease_asks_nothing(armed: World) -> None:
    run = await armed.start("a", mode=Mode.APPROVE)
    asked = await question(armed, run)
    stale = msgspec.structs.replace(run, epoch=run.epoch - 1)
    with pytest.raises(LeaseLost):
        await armed.move(stale, State.APPROVAL, next_at=asked.expires_at, ask=asked)
    assert await armed.store.approvals() == []


async def test_a_decision_is_for_good_and_wakes_the_run(armed: World) -> None:
    run, asked = await asking(armed)
    armed.later(MINUTE)
    decided = await decide(armed, asked)
    assert (decided.decision, decided.actor, decided.comment) == (Decision.APPROVED, "alice", "because")
    assert decided.decided_at == START + MINUTE
    assert decided.used_by == START + 6 * MINUTE
    assert await armed.store.approval(asked.id) == decided
    assert (await armed.store.run(run.id)).next_at == START + MINUTE
    await armed.claimed(run.id)
    record = (await armed.store.audit(kind="approval.approved"))[0].event
    assert (record.actor, record.run, record.policy, record.observed) == ("alice", run.id, "p", "because")
    assert record.data["approval"] == asked.id
    for decision in (Decision.APPROVED, Decision.REJECTED):
        with pytest.raises(
            Conflict, match=f"approval {asked.id} of run {run.id} was approved by alice at 2026-"
        ):
            await decide(armed, asked, decision, by="bob")
    assert (await armed.store.approval(asked.id)) == decided
    assert len(await armed.store.audit(kind="approval.approved")) == 1


async def test_the_last_moment_is_too_late(armed: World) -> None:
    run, asked = await asking(armed)
    armed.later(5 * MINUTE)
    with pytest.raises(Conflict, match="has expired"):
        await decide(armed, asked)
    assert (await armed.store.approval(asked.id)).open
    assert (await armed.store.run(run.id)) == run


@pytest.mark.parametrize(("after", "decision"), [(MINUTE, "withdrawn"), (5 * MINUTE, "expired")])
async def test_the_end_of_the_run_closes_the_question(armed: World, after: int, decision: str) -> None:
    run, asked = await asking(armed)
    armed.later(after)
    await armed.store.wake(run.id)
    run = await armed.claimed(run.id)
    await armed.end(run, Outcome.CANCELLED)
    closed = await armed.store.approval(asked.id)
    assert (closed.decision, closed.actor, closed.decided_at) == (decision, "daemon", START + after)
    assert f"approval.{decision}" in await armed.kinds(run=run.id)
    with pytest.raises(Conflict):
        await decide(armed, asked)


async def test_cancelling_closes_it_and_a_decision_does_not_hinder_cancelling(armed: World) -> None:
    first, asked = await asking(armed, "a")
    second, other = await asking(armed, "b")
    await decide(armed, other)
    for run in (first, second):
        await armed.store.cancel(run.id, AuditEvent(kind="run.cancelled", actor="bob"))
    with pytest.raises(Conflict, match="no longer asked: the run has ended: cancelled"):
        await decide(armed, asked)
    assert (await armed.store.approval(other.id)).decision is Decision.APPROVED


async def test_a_new_question_withdraws_the_old_one(armed: World) -> None:
    run, asked = await asking(armed)
    await armed.store.wake(run.id)
    run = await armed.claimed(run.id)
    again = await question(armed, run)
    await armed.move(run, State.APPROVAL, next_at=again.expires_at, ask=again)
    assert [one.decision for one in await armed.store.approvals(run=run.id)] == [None, Decision.WITHDRAWN]
    with pytest.raises(Conflict):
        await decide(armed, asked)
    await decide(armed, again)


async def test_there_is_no_such_approval(armed: World) -> None:
    with pytest.raises(NotFound):
        await armed.store.approval(77)
    with pytest.raises(NotFound):
        await armed.store.decide(77, Decision.APPROVED, AuditEvent(kind="approval.approved", actor="a"))


async def test_whoever_looks_at_the_run_loses_it_to_the_decision(armed: World) -> None:
    """It is about to write that nobody decided in time; meanwhile somebody has."""
    run, asked = await asking(armed)
    await armed.store.wake(run.id)
    looking = await armed.claimed(run.id)
    await decide(armed, asked)
    with pytest.raises(LeaseLost):
        await armed.end(looking, Outcome.REFUSED, reason=Reason.APPROVAL_EXPIRED)
    assert (await armed.store.run(run.id)).open
    await armed.claimed(run.id)


async def test_two_approvers_at_once(armed: World) -> None:
    run, asked = await asking(armed)
    answers = await asyncio.gather(
        *(decide(armed, asked, [Decision.APPROVED, Decision.REJECTED][n % 2], by=f"p{n}") for n in range(8)),
        return_exceptions=True,
    )
    won = [one for one in answers if isinstance(one, Approval)]
    assert len(won) == 1
    assert sum(isinstance(one, Conflict) for one in answers) == 7
    assert (await armed.store.approval(asked.id)) == won[0]
    events = [
        kind for kind in await armed.kinds(run=run.id) if kind in ("approval.approved", "approval.rejected")
    ]
    assert len(events) == 1


@pytest.mark.parametrize("ending", ["expiry", "cancel"])
async def test_deciding_while_the_run_ends(armed: World, ending: str) -> None:
    """One of them is first, and the other finds that out: never refused and approved at once by expiry."""
    for n in range(10):
        run, asked = await asking(armed, f"r{n}")
        await armed.store.wake(run.id)
        looking = await armed.claimed(run.id)

        async def end(looking: Run = looking) -> Any:
            if ending == "cancel":
                return await armed.store.cancel(looking.id, AuditEvent(kind="run.cancelled", actor="bob"))
            return await armed.end(looking, Outcome.REFUSED, reason=Reason.APPROVAL_EXPIRED)

        pair = (decide(armed, asked), end()) if n % 2 else (end(), decide(armed, asked))
        await asyncio.gather(*pair, return_exceptions=True)
        found, now = await armed.store.approval(asked.id), await armed.store.run(run.id)
        if found.decision is Decision.APPROVED:
            assert now.open or now.outcome is Outcome.CANCELLED
        else:
            assert found.decision is Decision.WITHDRAWN
            assert not now.open


# ---------------------------------------------------------------- ADMIT


async def test_admit_wants_an_approval_in_mode_approve(armed: World) -> None:
    run = await armed.start("a", mode=Mode.APPROVE)
    held = await armed.held(run)
    assert (held.reason, held.observed) == (Reason.APPROVAL_PENDING, "no approval")
    assert await armed.store.intents(run.id) == []


@pytest.mark.parametrize(
    ("decision", "said"),
    [(None, "is not decided"), (Decision.REJECTED, "is rejected")],
)
async def test_admit_wants_it_approved(armed: World, decision: Decision | None, said: str) -> None:
    run, asked = await asking(armed)
    if decision is not None:
        await decide(armed, asked, decision)
    else:
        await armed.store.wake(run.id)
    run = await armed.claimed(run.id)
    held = await armed.held(run, approval=asked.id)
    assert held.reason is Reason.APPROVAL_PENDING
    assert said in held.observed


async def test_admit_takes_it_for_this_very_action_only(armed: World) -> None:
    run, asked = await asking(armed, rung=1)
    await decide(armed, asked)
    run = await armed.claimed(run.id)
    held = await armed.held(run, approval=asked.id)  # of rung 0
    assert "something else" in held.observed
    other, question = await asking(armed, "b")
    await decide(armed, question)
    other = await armed.claimed(other.id)
    assert "something else" in (await armed.held(other, key="k:elsewhere", approval=question.id)).observed
    run = await armed.store.run(run.id)
    assert "something else" in (await armed.held(run, approval=question.id)).observed  # another run's
    await armed.admitted(other, approval=question.id)


async def test_admit_wants_it_fresh_unless_the_action_has_begun(armed: World) -> None:
    run, asked = await asking(armed)
    await decide(armed, asked)
    run = await armed.claimed(run.id)
    armed.later(5 * MINUTE + 1)
    await armed.store.release([run])
    run = await armed.claimed(run.id)
    held = await armed.held(run, approval=asked.id)
    assert "had to be used by" in held.observed
    armed.later(-1)
    run = await armed.admitted(run, 1, approval=asked.id)
    armed.later(MINUTE)
    run = await armed.move(
        run, State.GUARD, intents=(update(1, IntentOutcome.APPLIED),), progress=run.progress
    )
    run = await armed.claimed(run.id)
    await armed.admitted(run, 2, approval=asked.id, counted=False)  # its next chunk


async def test_going_back_needs_none(armed: World) -> None:
    run = await armed.start("a", mode=Mode.APPROVE)
    await armed.admitted(run, kind=IntentKind.REVERT)


def update(number: int, outcome: IntentOutcome) -> Any:
    from remediator.contracts import IntentUpdate

    return IntentUpdate(number=number, outcome=outcome)


async def test_a_question_stands_as_long_as_before_when_the_clock_jumps(armed: World) -> None:
    """A decision keeps for as long as there was to take it, and no longer."""
    _, asked = await asking(armed)
    stood = asked.expires_at - asked.asked_at
    jump = Control(kind=ControlKind.PAUSE, scope="", reason="the clock jumped", actor="daemon", since=START)
    await armed.store.jumped(Millis(HOUR), jump, AuditEvent(kind="control.paused"), ())
    armed.later(Millis(HOUR))
    decided = await decide(armed, asked)
    assert decided.expires_at == asked.expires_at + HOUR
    assert decided.used_by == armed.now + stood
    assert decided.link_until == asked.expires_at  # so that the link that was sent is still this one's
