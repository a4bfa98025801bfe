"""HOLD: the alert must have been firing for the policy's `for:`, counted from startsAt."""

from __future__ import annotations

from remediator.engine.case import Case
from remediator.engine.guards import alert_still_firing, policy_still_in_force
from remediator.engine.step import Go, Later, Step, Wait
from remediator.model import MINUTE, Instant, Millis, Reason, State, span

STALE_AFTER = Millis(15 * MINUTE)


async def hold(case: Case) -> Step:
    """Wait out the hold; after a long absence, act only on an alert that is known to be alive.

    If the hold ended more than 15 minutes ago and no delivery has come since this process
    started, the alert may long be over: live checks decide, or the next delivery does.
    """
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
    alive = bool(case.policy.when) or any(episode.seen_at is not None for episode in case.episodes)
    if case.now - ends > STALE_AFTER and not alive:
        return Wait(
            Reason.STALE_ALERT,
            observed=f"hold ended {span(case.now - ends)} ago, not delivered since the daemon started",
            allowed=f"at most {span(STALE_AFTER)} ago, or delivered again",
        )
    return Go(State.GUARD, case.progress)
