"""What waits for a point in time, carried along when the clock itself is moved.

Every timer was set as "so long from now". After a jump of the clock "so long" is still right, and the
point in time is not: a message would be sent hours late, or a call be looked at before it can have landed.
What is counted backwards (budgets, cooldowns) is left alone: an intent from the future counts too.
"""

from __future__ import annotations

import msgspec

from remediator.contracts import Move
from remediator.model import Instant, Millis, Progress
from remediator.store import rows
from remediator.store.tx import Tx

# Whoever is about to write what it reckoned by the old time finds its lease gone, and looks anew. Not where a
# call is under way: its outcome would be lost, and what it leads to is reckoned from when it came.
_TAKE_BACK = """
UPDATE run SET epoch = epoch + 1, lease_until = NULL, worker = NULL, woken = 0, next_at = :now
WHERE outcome IS NULL AND lease_until IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM intent WHERE intent.run = run.id AND intent.outcome = 'pending')
"""
_PROGRESS = "SELECT id, progress FROM run WHERE outcome IS NULL"
_SET_PROGRESS = "UPDATE run SET progress = :progress WHERE id = :id"
_MOMENTS = ("waiting_since", "settle_until", "verify_from", "verify_until", "stable_since")

_SHIFTS = (
    "UPDATE run SET next_at = next_at + :by WHERE outcome IS NULL AND next_at IS NOT NULL",
    "UPDATE run SET lease_until = lease_until + :by WHERE outcome IS NULL AND lease_until IS NOT NULL",
    "UPDATE effect SET expires_at = expires_at + :by WHERE returned_at IS NULL",
    # A chain counts from the declaration, which is still so long ago.
    # Whoever is about to change it has reckoned by the old time, and finds another `updated_at`.
    "UPDATE incident SET opened_at = opened_at + :by, next_at = next_at + :by, updated_at = updated_at + :by"
    " WHERE resolved_at IS NULL",
    "UPDATE notifier SET failing_since = failing_since + :by, retry_at = retry_at + :by"
    " WHERE failing_since IS NOT NULL",
    "UPDATE outbox SET next_at = next_at + :by WHERE sent_at IS NULL",
    # Both: as long as there was to decide, so long may the decision be used.
    "UPDATE approval SET asked_at = asked_at + :by, expires_at = expires_at + :by WHERE decided_at IS NULL",
)


def shift(tx: Tx, by: Millis) -> None:
    """Move every timer that is still to come by this much, and the patience of runs that wait."""
    tx.run(_TAKE_BACK, {"now": tx.now})
    for statement in _SHIFTS:
        tx.run(statement, {"by": by})
    moved = (
        (id, found, shifted(found, by))
        for id, found in ((id, rows.progress(text)) for id, text in tx.all(_PROGRESS))
    )
    tx.many(_SET_PROGRESS, [{"id": id, "progress": rows.encode(new)} for id, old, new in moved if new != old])


def carried(move: Move, by: Millis) -> Move:
    """A move that was reckoned before timers were moved by so much."""
    if not by:
        return move
    next_at = None if move.next_at is None else Instant(move.next_at + by)
    return msgspec.structs.replace(move, next_at=next_at, progress=shifted(move.progress, by))


def shifted(progress: Progress, by: Millis) -> Progress:
    """The same, on a clock that was moved by so much."""
    found = {name: getattr(progress, name) for name in _MOMENTS}
    later = {name: Instant(at + by) for name, at in found.items() if at is not None}
    return msgspec.structs.replace(progress, **later) if later else progress
