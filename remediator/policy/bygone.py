"""Windows that are over for good: what is proposed with one is refused, for it does nothing any more.

Only when somebody proposes it. A set that is in force stays so when the last day of one of its windows has
passed: no calendar may take the policies away from a daemon that runs, or keep it from starting again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from remediator.model import Instant, moment
from remediator.policy import source
from remediator.policy.compiled import PolicySet
from remediator.policy.faults import PolicyErrors
from remediator.policy.source import WINDOWS
from remediator.policy.uses import Fault
from remediator.policy.window import TimeInterval, Window


def refuse_bygone(policies: PolicySet, now: Instant) -> None:
    """Refuse windows that never open again.

    Raises:
        PolicyErrors: names each, with its place in windows.yaml.
    """
    faults = [
        Fault(
            ("windows", number, "time_intervals"),
            f"the window {window.name!r} never occurs again: it was over before {moment(now)}; "
            "give it other years, or remove it",
            key=True,
        )
        for number, window in enumerate(policies.windows.values())
        if over(window, now)
    ]
    if faults:
        raise PolicyErrors(source.placed(WINDOWS, policies.files[WINDOWS], faults))


def over(window: Window, now: Instant) -> bool:
    """Whether none of its intervals occurs now or later."""
    return all(_over(interval, now) for interval in window.time_intervals)


def _over(interval: TimeInterval, now: Instant) -> bool:
    if interval.years is None:
        return False  # it comes again each year
    return not interval.contains(now) and not any(
        end > now for day in _days(interval, now) for end in interval.ends(day)
    )


def _days(interval: TimeInterval, now: Instant) -> Iterator[date]:
    """The dates from yesterday on on which it can occur: 28 years hold every calendar."""
    day = interval.today(now) - timedelta(days=1)
    last = min(max(span.last for span in interval.years or ()), day.year + 30)
    while day.year <= last:
        if interval.has_day(day):
            yield day
        day += timedelta(days=1)
