"""A run whose policy revision can no longer be read: a connection was renamed, or an action is gone. Pure.

It waits, visible, as long as runs wait for anything; then a person has it. It never acts by rules that
are not its own.
"""

from __future__ import annotations

import msgspec

from remediator.contracts import Move
from remediator.engine.case import Case
from remediator.engine.moves import ended, later
from remediator.engine.states.unknown import quarantine
from remediator.engine.step import NO_EXTRA, End, Later
from remediator.model import BEFORE_ADMIT, MINUTE, Instant, Millis, Outcome, Reason
from remediator.policy.schema import Policy
from remediator.policy.set import PolicySet

_AGAIN = Millis(MINUTE)


def stand_in(active: PolicySet, name: str) -> Policy:
    """What to go by where the run's own policy cannot be read: whom to call, and how patient to be."""
    found = active.policies.get(name)
    return found if found is not None else Policy.model_construct(name=name)


def orphaned(case: Case, why: str) -> Move:
    """Wait for the revision to become readable; after `give_up`, hand the run over.

    Args:
        case: with `stand_in` as its policy.
        why: why the revision cannot be read.
    """
    observed = f"policy revision {case.run.policy_revision[:12]} cannot be read: {why.splitlines()[0]}"
    allowed = "a revision that this version and its settings can read"
    since = case.progress.waiting_since or case.now
    if case.now - since < case.policy.give_up:
        told = case.run.reason is Reason.POLICIES_CHANGED
        event = case.event("run.waiting", Reason.POLICIES_CHANGED, observed, allowed)
        progress = msgspec.structs.replace(case.progress, waiting_since=since)
        again = Instant(case.now + _AGAIN)
        events = () if told else (event,)
        step = Later(case.run.state, again, progress, events, Reason.POLICIES_CHANGED, observed, allowed)
        return later(case, step, (), NO_EXTRA)
    if case.pending is not None:
        return ended(case, quarantine(case, case.pending, observed), (), NO_EXTRA)
    untouched = case.run.state in BEFORE_ADMIT and not case.progress.applied
    outcome = Outcome.REFUSED if untouched else Outcome.ESCALATED
    note = "" if untouched else "what was done stays"
    return ended(case, End(outcome, Reason.POLICIES_CHANGED, observed, allowed, note), (), NO_EXTRA)
