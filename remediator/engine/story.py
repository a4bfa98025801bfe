"""The audit events about one thing, oldest first: how it began and how it ended, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import Store
from remediator.model import AlertId, AuditRecord, RunId


async def story(
    store: Store, most: int, *, run: RunId | None = None, alert: AlertId | None = None
) -> tuple[Sequence[AuditRecord], int | None]:
    """At most so many events about a run or an alert: the first fifth of them, and the last.

    Returns:
        The events, and how many of them stand before a gap; None where nothing is left out. A run that was
        throttled for half an hour has a thousand, and what matters most is how it ended.
    """
    first = list(await store.audit(run=run, alert=alert, limit=most, oldest_first=True))
    if len(first) < most:
        return first, None
    begins = most // 5
    last = list(reversed(await store.audit(run=run, alert=alert, limit=most - begins)))
    told = {(record.source, record.id) for record in first}
    if (last[0].source, last[0].id) in told:  # no gap: they meet
        return [*first, *(record for record in last if (record.source, record.id) not in told)], None
    return [*first[:begins], *last], begins
