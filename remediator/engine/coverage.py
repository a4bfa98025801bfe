"""Whether what was approved covers what is to be done now. Pure.

Between the question and the answer the world moves on: the guards plan anew, and a person is asked again
only if that changes what was approved. A plan is covered if

- it is the same action on the same target (the provider's identity, not its name);
- every declared field goes the same way: a number up where up was approved and down where down was, by
  whatever amount; anything else to the very value that was approved; a mapping, such as the shares of
  revisions, entry by entry. Leaving a field as it is, is always covered;
- its blast radius is no greater, the calls already made under this approval added: neither the amount
  nor the share of the whole. Another unit, or a whole that is no longer known, cannot be compared and is
  greater.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from remediator.model import Blast, Plan

_DUST = 1e-9
"""Sums of shares are sums of floats."""


def covers(approved: Plan, plan: Plan, done: Sequence[Plan] = ()) -> bool:
    """Whether `plan` may be carried out because `approved` was approved.

    Args:
        approved: the whole action, as a person saw it.
        plan: what is to be done next: the whole, or one of its steps or chunks.
        done: the steps or chunks that were carried out under this approval already.
    """
    return uncovered(approved, plan, done) == ""


def uncovered(approved: Plan, plan: Plan, done: Sequence[Plan] = ()) -> str:
    """Why it does not cover it, for people; "" where it does."""
    if plan.action != approved.action:
        return f"the action is {plan.action}, approved was {approved.action}"
    if plan.target.key != approved.target.key:
        return f"the target is {plan.target.name}, approved was {approved.target.name}"
    for field in sorted({*plan.before, *plan.after, *approved.before, *approved.after}):
        known = (field in side for side in (plan.before, plan.after, approved.before, approved.after))
        if not all(known):
            return f"{field} is not in both plans"
        now = (plan.before[field], plan.after[field])
        then = (approved.before[field], approved.after[field])
        if not _same_way(now, then):
            return f"{field} goes {now[0]} → {now[1]}, approved was {then[0]} → {then[1]}"
    return _more(approved.blast, plan.blast, sum(one.blast.amount for one in done))


def _same_way(now: tuple[Any, Any], then: tuple[Any, Any]) -> bool:
    if all(isinstance(one, dict) for one in (*now, *then)):
        keys = {key for one in (*now, *then) for key in one}
        return all(_same_way(_entry(now, key), _entry(then, key)) for key in keys)
    if now[0] == now[1] and _plain(now[0]):
        return True
    if all(_number(one) for one in (*now, *then)):
        return bool(_sign(now) == _sign(then))
    return bool(now[1] == then[1] and _plain(now[1]))


def _entry(sides: tuple[Any, Any], key: str) -> tuple[Any, Any]:
    """One entry, from and to. One that is not there is 0 beside a number: a revision without traffic."""
    from_, to = sides[0].get(key), sides[1].get(key)
    if from_ is None and (to is None or _number(to)):
        from_ = 0
    if to is None and _number(from_):
        to = 0
    return from_, to


def _sign(sides: tuple[float, float]) -> int:
    return (sides[1] > sides[0]) - (sides[1] < sides[0])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> bool:
    """Whether it equals itself: what is not a number does not, and covers nothing."""
    return bool(value == value)


def _more(approved: Blast, blast: Blast, done: float) -> str:
    amount = blast.amount + done
    if blast.unit != approved.unit:
        return f"it is counted in {blast.unit}, approved was {approved.unit}"
    if not amount <= approved.amount + _DUST:
        return f"it touches {amount:g} {blast.unit}, approved were {approved.amount:g}"
    if approved.whole is None:
        return ""
    if blast.whole is None:
        return f"it touches {amount:g} of an unknown whole, approved were {_of(approved)}"
    if amount and not amount * approved.whole <= approved.amount * blast.whole + _DUST:
        return f"it touches {amount:g} of {blast.whole:g} {blast.unit}, approved were {_of(approved)}"
    return ""


def _of(blast: Blast) -> str:
    return (
        f"{blast.amount:g} of {blast.whole:g} {blast.unit}"
        if blast.whole is not None
        else f"{blast.amount:g}"
    )
