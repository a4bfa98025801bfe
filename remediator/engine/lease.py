"""What a person may do about a lease: renew it within bounds, or have it returned now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remediator.contracts import Store
from remediator.errors import Conflict
from remediator.model import DAY, HOUR, AuditEvent, Effect, Instant, Millis, Run, span
from remediator.policy.schema import Policy
from remediator.policy.set import PolicySet

LONGEST = Millis(7 * DAY)
"""How long a lease may last in all, however often it is renewed: what is wanted for longer than that
is a change, and belongs where changes are reviewed."""


def length(policy: Policy | None, effect: Effect) -> Millis:
    """How long the policy lends such an effect for; an hour if it no longer says."""
    for remedy in policy.remedies if policy is not None else ():
        if remedy.expires is not None and any(use.action == effect.plan.action for use in remedy.actions):
            return remedy.expires
    return HOUR


async def renew(
    store: Store,
    revision: Callable[[str], Awaitable[PolicySet]],
    id: int,
    longer: Millis,
    reason: str,
    actor: str,
) -> Effect:
    """Let a lease end `longer` milliseconds from now: at most as long as its policy lends for, and
    `LONGEST` after it was lent.

    Raises:
        NotFound: there is no such lease.
        Conflict: that is too long, or the lease is over, is being returned, or ends later already.
        ConfigurationError: the policy that lent it cannot be read.
    """
    effect = await store.effect(id)
    lender = await store.run(effect.run)
    most = length((await revision(lender.policy_revision)).policies.get(effect.policy), effect)
    if longer > most:
        raise Conflict(
            f"effect {id}: {span(longer)} is longer than policy {effect.policy} lends it for; "
            f"at most {span(most)} at a time"
        )
    now = await store.now()
    until = Instant(now + longer)
    lent_at = effect.lent_at if effect.lent_at is not None else lender.created_at
    if until > lent_at + LONGEST:
        raise Conflict(
            f"effect {id} would be lent for {span(until - lent_at)} in all; at most {span(LONGEST)}. "
            "Make the change where it is reviewed, or let it go back"
        )
    event = AuditEvent(
        kind="effect.renewed",
        actor=actor,
        alert=lender.alert,
        run=lender.id,
        policy=effect.policy,
        target=effect.target.name,
        observed=f"lent for {span(max(0, effect.expires_at - now))} yet",
        allowed=f"{span(most)} at a time, {span(LONGEST)} in all",
        data={"effect": id, "field": effect.field, "until": until, "reason": reason},
    )
    return await store.renew_effect(id, until, event)


async def recall(store: Store, id: int, reason: str, actor: str) -> Run:
    """Open the run that returns a lease now, whether or not its alert still fires.

    Raises:
        NotFound: there is no such lease.
        Conflict: it is over, is being returned, or its field is lent anew.
    """
    effect = await store.effect(id)
    event = AuditEvent(
        kind="effect.recalled",
        actor=actor,
        run=effect.run,
        policy=effect.policy,
        target=effect.target.name,
        data={"effect": id, "field": effect.field, "expires_at": effect.expires_at, "reason": reason},
    )
    return await store.recall_effect(id, event)
