"""What waits for a point in time, carried along when the clock itself is moved.

Every timer was set as "so long from now". After a jump of the clock "so long" is still right, and the
point in time is not: a message would be sent hours late, or a call be looked at before it can have landed.
What is counted backwards (budgets, cooldowns) is left alone: an intent from the future counts too.
"""

from __future__ import annotations

from remediator.model import Millis
from remediator.store.tx import Tx

_SHIFTS = (
    "UPDATE run SET next_at = next_at + :by WHERE outcome IS NULL AND next_at IS NOT NULL",
    "UPDATE run SET lease_until = lease_until + :by WHERE outcome IS NULL AND lease_until IS NOT NULL",
    "UPDATE effect SET expires_at = expires_at + :by WHERE returned_at IS NULL",
    # A chain counts from the declaration, which is still so long ago.
    "UPDATE incident SET opened_at = opened_at + :by, next_at = next_at + :by WHERE resolved_at IS NULL",
    "UPDATE notifier SET failing_since = failing_since + :by, retry_at = retry_at + :by"
    " WHERE failing_since IS NOT NULL",
    "UPDATE outbox SET next_at = next_at + :by WHERE sent_at IS NULL",
    # Both: as long as there was to decide, so long may the decision be used.
    "UPDATE approval SET asked_at = asked_at + :by, expires_at = expires_at + :by WHERE decided_at IS NULL",
)


def shift(tx: Tx, by: Millis) -> None:
    """Move every timer that is still to come by this much."""
    for statement in _SHIFTS:
        tx.run(statement, {"by": by})
