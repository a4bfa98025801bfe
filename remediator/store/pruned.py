"""What retention has deleted of the audit log: so that pruned never looks like missing.

Every pruning that touches the log writes one event, `audit.pruned`, which says all that is gone
so far. It is sealed like any other, and the latest of them is never deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from remediator.model import AuditEvent, Struct
from remediator.store import trail
from remediator.store.tx import Tx, insert

KIND = "audit.pruned"
_LAST = """
SELECT body FROM audit_event WHERE id = (SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'pruned')
"""
_PUT = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"

Ranges = tuple[tuple[int, int], ...]


class Pruned(Struct, frozen=True, kw_only=True):
    """All that is gone. Ids at or below `upto` are gone with their seals; the ranges beyond it
    (first and last id, by source) are gone although their seals are kept.

    seal: the number of the last seal that was deleted; 0 for none. hash: its hash, with which the
    chain now begins.
    """

    ranges: dict[str, Ranges] = {}
    seal: int = 0
    first: int = 1
    upto: int = -1
    hash: str = ""
    event: int | None = None

    def has(self, source: str, id: int) -> bool:
        """Whether a record was pruned."""
        return id <= self.upto or any(low <= id <= high for low, high in self.ranges.get(source, ()))


def last(tx: Tx) -> Pruned:
    """What the latest `audit.pruned` says; nothing pruned if there is none."""
    row = tx.one(_LAST)
    if row is None:
        return Pruned()
    try:
        record = trail.record(row[0])
        said = msgspec.convert(record.event.data.get("gone"), Pruned)
    except (msgspec.DecodeError, msgspec.ValidationError, TypeError):
        return Pruned()  # someone changed it: then nothing counts as pruned, and is missing
    return msgspec.structs.replace(said, event=record.id) if record.event.kind == KIND else Pruned()


def record(tx: Tx, gone: Pruned, deleted: dict[str, int]) -> None:
    """Write the event, and remember which it is."""
    id = tx.id("audit")
    said = msgspec.structs.replace(gone, event=None)
    event = AuditEvent(kind=KIND, data={"deleted": deleted, "gone": said})
    trail.append_as(tx, id, event)
    tx.run(_PUT, {"key": "pruned", "value": str(id)})


def merge(ranges: Ranges, deleted: Sequence[int], kept: Iterable[int]) -> Ranges:
    """Ranges that also hold what has just been deleted.

    Ids have gaps that never were records (both tables share them), so beyond the last range
    everything up to the last deleted id is gone but for what is kept. Inside the former ranges only
    the deleted ids themselves are added: a record that was kept there and is missing stays missing.

    Args:
        deleted: ids, in order.
        kept: ids of the table that are still there and lie beyond the last range.
    """
    if not deleted:
        return ranges
    edge = ranges[-1][1] if ranges else -1
    found = [*ranges, *((id, id) for id in deleted if id <= edge)]
    low, high = edge + 1, deleted[-1]
    for id in kept:
        if low <= id <= high:
            if low < id:
                found.append((low, id - 1))
            low = id + 1
    if low <= high:
        found.append((low, high))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def beyond(ranges: Ranges, upto: int) -> Ranges:
    """What of the ranges lies above an id."""
    return tuple((max(low, upto + 1), high) for low, high in ranges if high > upto)
