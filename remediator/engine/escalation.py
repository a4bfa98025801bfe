"""Which runs need an incident, and when. Pure."""

from __future__ import annotations

from remediator.contracts import Declaration
from remediator.engine.case import Case
from remediator.engine.step import End
from remediator.model import Mode, Origin, Outcome, Severity, State

CALLING = frozenset({Outcome.REFUSED, Outcome.NOTHING_TO_DO, Outcome.REVERTED, Outcome.ESCALATED})


def called(case: Case, end: End) -> Declaration | None:
    """The incident of this ending; none where the policy only observes, or a lease simply ended."""
    if end.outcome not in CALLING or case.run.mode is Mode.OBSERVE:
        return None
    lease = case.run.origin is Origin.LEASE
    if lease and end.outcome is not Outcome.ESCALATED:
        return None
    # That the alert resolves says nothing about a value that could not be put back.
    stuck = end.outcome is Outcome.ESCALATED and (lease or case.run.state is State.REVERTING)
    return _declaration(case, case.run.target_key, calling=True, by_person=stuck)


def ahead(case: Case, target_key: str | None = None) -> Declaration | None:
    """The incident of a P1 alert, declared as soon as its hold is over, whatever the run does next:
    the runbooks declare a P1 in the first five minutes, while it is being repaired.

    Args:
        target_key: the target's identity, where it is known by now.
    """
    run = case.run
    if case.policy.severity is not Severity.P1 or run.mode is Mode.OBSERVE or run.origin is not Origin.ALERT:
        return None
    return _declaration(case, target_key or run.target_key, calling=False, by_person=False)


def _declaration(case: Case, target_key: str | None, *, calling: bool, by_person: bool) -> Declaration:
    # Runs whose target could not be named are one incident for each policy.
    target = case.run.target or f"policy:{case.run.policy}"
    return Declaration(
        target=target,
        target_key=target_key or target,
        severity=case.policy.severity,
        chain=case.policy.escalate or "",
        policy=case.run.policy,
        calling=calling,
        by_person=by_person,
    )
