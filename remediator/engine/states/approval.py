"""APPROVAL: the run waits for a person's word, until it expires. Nothing else lets it go on."""

from __future__ import annotations

from remediator.engine.asking import pending
from remediator.engine.case import Case
from remediator.engine.states.guards import alert_still_firing, policy_still_in_force
from remediator.engine.step import End, Go, Later, Step
from remediator.model import Decision, Outcome, Reason, State, moment


async def approval(case: Case) -> Step:
    """Approved: the guards ask all again. Rejected or expired: refused. Else wait on.

    A resolve, or a policy that is gone, ends the wait, and the question with it.
    """
    found = await case.tools.store.approvals(run=case.run.id, limit=1)
    if not found:  # it was pruned, or written by hand: the guards ask anew
        return Go(State.GUARD, case.progress)
    latest = found[0]
    if latest.decision is Decision.APPROVED:
        return Go(State.GUARD, case.progress)
    if latest.decision is Decision.REJECTED:
        return End(
            Outcome.REFUSED,
            Reason.APPROVAL_REJECTED,
            observed=f"{latest.actor} rejected it: {latest.comment}",
            allowed="approved",
            data={"approval": latest.id},
        )
    for guard in (policy_still_in_force, alert_still_firing):
        step = await guard(case)
        if step is not None:
            return step
    if latest.decision is not None or latest.expires_at <= case.now:
        return End(
            Outcome.REFUSED,
            Reason.APPROVAL_EXPIRED,
            observed=f"nobody decided approval {latest.id} until {moment(latest.expires_at)}",
            allowed=f"approved by {latest.role} or a higher role by then",
            data={"approval": latest.id},
        )
    observed, allowed = pending(latest)
    return Later(
        State.APPROVAL,
        latest.expires_at,
        case.progress,
        reason=Reason.APPROVAL_PENDING,
        observed=observed,
        allowed=allowed,
    )
