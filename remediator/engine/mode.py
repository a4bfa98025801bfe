"""Under which mode a run goes on now: its own, unless a brake takes some of it away. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from remediator.engine.case import Case
from remediator.engine.shapes import time
from remediator.engine.windows import first_names, ruled
from remediator.model import Control, ControlKind, Mode, Reason

LICENCE = {Mode.OBSERVE: 0, Mode.APPROVE: 1, Mode.ENFORCE: 2}
"""How much a mode allows: what is less may always be done instead."""


@dataclass(frozen=True, slots=True)
class Demotion:
    """Why a run may do less than its mode says."""

    mode: Mode
    reason: Reason
    observed: str
    allowed: str


def effective_mode(case: Case, names: Collection[str] = ()) -> Mode:
    """The mode that guards, approval and ADMIT go by.

    Args:
        names: the target's, once all are known; before that the one that the policy gives it.
    """
    found = demotion(case, names)
    if found is None and case.admitted and case.progress.asked:
        return Mode.APPROVE  # a person has said yes to what was done, and to nothing else
    return case.run.mode if found is None else found.mode


def demotion(case: Case, names: Collection[str] = ()) -> Demotion | None:
    """What takes licence from this run, if anything does. A run that has acted finishes as it began."""
    if case.admitted:
        return None
    found = [one for one in (_by_window(case, names), _by_breaker(case)) if one is not None]
    least = min(found, key=lambda one: LICENCE[one.mode], default=None)
    return least if least is not None and LICENCE[least.mode] < LICENCE[case.run.mode] else None


def _by_window(case: Case, names: Collection[str]) -> Demotion | None:
    if not case.active.windows:
        return None
    said = ruled(case, names or first_names(case))
    if said.effect != "observe":
        return None
    until = f" until {time(said.until)}" if said.until is not None else ""
    return Demotion(
        Mode.OBSERVE,
        Reason.WINDOW,
        observed=f"window {said.window} (effect observe) is open{until}",
        allowed="policies only plan within it",
    )


def _by_breaker(case: Case) -> Demotion | None:
    broken = breaker(case)
    if broken is None:
        return None
    mode = demoted_to(broken)
    return Demotion(
        mode,
        Reason.BREAKER,
        observed=f"{broken.reason}: policy {case.run.policy} is in mode {mode}",
        allowed=f"mode {case.run.mode}; after: remediator policies restore {case.run.policy} --comment …",
    )


def breaker(case: Case) -> Control | None:
    """The breaker of this run's policy, if it is open."""
    scope = f"policy:{case.run.policy}"
    return next(
        (one for one in case.controls if one.kind is ControlKind.BREAKER and one.scope == scope), None
    )


def demoted_to(control: Control) -> Mode:
    """The mode that a breaker leaves a policy; where it does not say, the least."""
    said = control.data.get("demote_to")
    return Mode.APPROVE if said == Mode.APPROVE else Mode.OBSERVE
