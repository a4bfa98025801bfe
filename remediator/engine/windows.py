"""Windows as the engine asks them: may an action start now, and until when is that so?"""

from __future__ import annotations

from collections.abc import Collection

from remediator.contracts import Slot
from remediator.engine.bounds import in_force
from remediator.engine.case import Case
from remediator.engine.shapes import time
from remediator.engine.step import Wait
from remediator.errors import Refused
from remediator.model import Mode, Plan, Reason
from remediator.policy.ruling import Ruling, both, ruling


def first_names(case: Case) -> tuple[str, ...]:
    """The target as the policy names it, before anything was observed."""
    action = case.tools.catalogue.action(case.use.action)
    if action is None:
        return ()
    try:
        return (action.target_name(case.params(action)),)
    except Refused:
        return ()


async def all_names(case: Case, plan: Plan) -> tuple[str, ...]:
    """Every name by which the plan's target is known: windows and limits that are written for one of
    them hold for it under all."""
    asked = bool(case.active.limits.targets) or any(one.targets for one in case.active.windows.values())
    known = await case.tools.store.names(plan.target.key) if asked else ()
    return tuple(dict.fromkeys((plan.target.name, *first_names(case), *known)))


def ruled(case: Case, names: Collection[str]) -> Ruling:
    """What the windows in force say about this run and a target of these names."""
    windows, now = case.active.windows, in_force(case)
    found = ruling(windows, case.policy.only_during, names, case.now)
    if now is None or now.only_during == case.policy.only_during or found.effect is not None:
        return found
    other = ruling(windows, now.only_during, names, case.now)
    return both(found, other)


def closed(case: Case, names: Collection[str]) -> Wait | None:
    """The wait that a window asks for. The further steps and chunks of an action that has begun are not
    held back: half of it is worse than either end. Who has acted cannot merely observe, and waits."""
    if case.run.mode is Mode.OBSERVE or case.done_here:
        return None
    found = ruled(case, names)
    if found.effect is None or (found.effect == "observe" and not case.admitted):
        return None
    until = f" until {time(found.until)}" if found.until is not None else ""
    if found.outside:
        opens = f", next at {time(found.until)}" if found.until is not None else ""
        return Wait(
            Reason.WINDOW, f"outside of {found.window}{opens}", f"only_during {found.window}", found.until
        )
    return Wait(
        Reason.WINDOW,
        observed=f"window {found.window} (effect {found.effect}) is open{until}",
        allowed="no action starts within it",
        until=found.until,
    )


def slot(case: Case, names: Collection[str]) -> Slot:
    """The stretch of time for which the windows' answer holds, for ADMIT to compare with its clock."""
    found = ruled(case, names)
    return Slot(since=found.since, until=found.until, then=found.next)
