"""The bounds that hold for a run: those it began with, and none looser than the set in force says. Pure.

A run keeps the policy revision that it started with. But whoever lowers a budget means the runs that wait,
too: what is in force bounds every action that has not begun.
"""

from __future__ import annotations

from remediator.engine.case import Case
from remediator.policy.fields import BlastRadius
from remediator.policy.schema import Limits, Policy


def in_force(case: Case) -> Policy | None:
    """The run's policy as it is in force now, where that is another one than the run began with. None for an
    action that has begun: it is finished as it began."""
    now = case.active.policies.get(case.run.policy)
    return None if now is case.policy or case.done_here else now


def bounds(case: Case) -> Limits:
    """The limits of the run's policy."""
    now = in_force(case)
    return case.policy.limits if now is None else stricter(case.policy.limits, now.limits)


def stricter(one: Limits, other: Limits) -> Limits:
    """What fits both."""
    if one == other:
        return one
    rarely = min((one.flapping, other.flapping), key=lambda budget: budget.count / budget.window)
    return one.model_copy(
        update={
            "cooldown": max(one.cooldown, other.cooldown),
            "per_target": tuple(dict.fromkeys((*one.per_target, *other.per_target))),
            "budget": tuple(dict.fromkeys((*one.budget, *other.budget))),
            "concurrent": min(one.concurrent, other.concurrent),
            "flapping": rarely,
            "blast_radius": BlastRadius(
                percent=_least(one.blast_radius.percent, other.blast_radius.percent),
                amount=_least(one.blast_radius.amount, other.blast_radius.amount),
            ),
        }
    )


def _least(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
