"""HOLD: the alert must have been firing for the policy's `for:`, counted from startsAt."""

from __future__ import annotations

from remediator.engine.case import Case
from remediator.engine.states.guards import alert_still_firing, policy_still_in_force
from remediator.engine.step import Go, Later, Step
from remediator.model import Instant, Reason, State, span


async def hold(case: Case) -> Step:
    """Wait out the hold. Whether the alert is too old by then is for the guards to say."""
    for guard in (policy_still_in_force, alert_still_firing):
        step = await guard(case)
        if step is not None:
            return step
    if case.by_hand:
        return Go(State.GUARD, case.progress)
    ends = Instant(case.episode.alert.starts_at + case.policy.for_)
    if case.now < ends:
        return Later(
            State.HOLD,
            ends,
            case.progress,
            reason=Reason.HOLDING,
            observed=f"firing for {span(max(0, case.now - case.episode.alert.starts_at))}",
            allowed=f"for {span(case.policy.for_)}",
        )
    return Go(State.GUARD, case.progress)
