"""From a new alert to the runs it opens. Pure and fast: called for each new episode, before commit."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import Catalogue, Opening
from remediator.errors import Refused
from remediator.model import Alert, Instant, Origin, State
from remediator.policy.schema import ActionUse, Policy
from remediator.policy.set import PolicySet
from remediator.policy.template import render


def openings(policies: PolicySet, catalogue: Catalogue, alert: Alert, now: Instant) -> Sequence[Opening]:
    """One opening for each policy that matches."""
    matched = policies.match(alert)
    if not matched:  # nearly always
        return ()
    return [opening(policies, catalogue, policy, alert, now) for policy in matched]


def opening(
    policies: PolicySet,
    catalogue: Catalogue,
    policy: Policy,
    alert: Alert,
    now: Instant,
    origin: Origin = Origin.ALERT,
) -> Opening:
    """The run that this policy opens for this alert."""
    held_until = Instant(alert.starts_at + policy.for_) if origin is Origin.ALERT else now
    return Opening(
        policy=policy.name,
        policy_revision=policies.hash,
        target=target_name(policy, catalogue, alert),
        mode=policy.mode,
        state=State.HOLD,
        next_at=max(now, held_until),
        open_runs=policy.limits.open_runs,
        origin=origin,
    )


def target_name(policy: Policy, catalogue: Catalogue, alert: Alert) -> str | None:
    """What the first remedy would change, as people read it; None where it cannot be named (its
    run is then refused, and says why)."""
    return named(policy.remedies[0].actions[0], catalogue, alert)


def named(use: ActionUse, catalogue: Catalogue, alert: Alert) -> str | None:
    """What one action would change, as people read it; None where it cannot be named."""
    action = catalogue.action(use.action)
    if action is None:
        return None
    try:
        return action.target_name(render(use.with_, action.params, alert))
    except Refused:
        return None
