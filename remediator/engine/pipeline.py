"""What stands between an alert and an action, in the order in which it is asked.

Each guard answers None (proceed) or the step that stops the run. ADMIT asks the brakes again, in
the transaction that writes the intent; asking here as well saves the network what a brake would
refuse anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remediator.engine.case import Case
from remediator.engine.states.guards import (
    alert_not_stale,
    alert_still_firing,
    conditions_hold,
    no_storm,
    not_flapping,
    not_paused,
    not_quarantined,
    policy_still_in_force,
    remedy_condition_holds,
    windows_allow,
)
from remediator.engine.step import Step

Guard = Callable[[Case], Awaitable[Step | None]]

GUARDS: tuple[Guard, ...] = (
    policy_still_in_force,
    alert_still_firing,
    alert_not_stale,
    not_paused,
    windows_allow,
    no_storm,
    not_quarantined,
    not_flapping,
    conditions_hold,
    remedy_condition_holds,
)


async def stopped(case: Case) -> Step | None:
    """The first guard that stops the run, or None."""
    for guard in GUARDS:
        step = await guard(case)
        if step is not None:
            return step
    return None
