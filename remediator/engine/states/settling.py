"""SETTLING: the provider has accepted the change; wait until it has carried it out."""

from __future__ import annotations

import msgspec

from remediator.contracts import Settled
from remediator.engine.case import Case
from remediator.engine.ladder import action_finished, rung_broken
from remediator.engine.step import Fail, Later, Step
from remediator.errors import ActionError
from remediator.model import Instant, Intent, Millis, Reason, State, span

_FIRST_POLL = Millis(250)
_LONGEST_POLL = Millis(10_000)


def poll(attempts: int) -> Millis:
    """How long until the provider is asked again: 250ms, 500ms, 1s … at most 10s."""
    return Millis(min(_LONGEST_POLL, _FIRST_POLL << min(attempts, 6)))


async def settling(case: Case) -> Step:
    """Ask the provider; carry on when it is done, fail when it says so or time is up."""
    intent = case.intent(case.progress.applied[-1])
    answer = await ask(case, intent)
    if isinstance(answer, Later):
        return answer
    if answer.done:
        event = case.event("action.settled", number=intent.number, detail=answer.detail)
        return action_finished(case, more=intent.plan.more, events=(event,))
    reason = too_late(case)
    return rung_broken(
        case,
        Fail(
            reason,
            observed=answer.failed,
            allowed=f"{intent.plan.action} settles",
            note="applied, but did not settle",
            ladder=True,
            events=(case.event("action.failed", reason, answer.failed, number=intent.number),),
        ),
    )


def too_late(case: Case) -> Reason:
    """Why work did not settle: its time was up, or the provider said that it failed."""
    until = case.progress.settle_until
    return Reason.SETTLE_TIMEOUT if until is None or case.now >= until else Reason.ACTION_FAILED


async def ask(case: Case, intent: Intent) -> Settled | Later:
    """The provider's answer, or when to ask again. Past its time, work counts as failed."""
    action = case.action(intent.plan.action)
    try:
        answer = await case.tools.execute.settled(action, intent.plan, case.now, case.episode)
        seen = "still working"
    except ActionError as error:
        answer, seen = Settled(done=False), str(error)
    if answer.done or answer.failed:
        return answer
    until = case.progress.settle_until or case.now
    if case.now >= until:
        return Settled(done=False, failed=f"{seen} after {span(action.settle_time)}")
    progress = msgspec.structs.replace(case.progress, attempts=case.progress.attempts + 1)
    state = State.SETTLING if case.run.state is State.SETTLING else State.REVERTING
    next_at = Instant(min(until, case.now + poll(case.progress.attempts)))
    return Later(state, next_at, progress, observed=seen, allowed="finished")
