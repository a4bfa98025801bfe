"""The runs that people started: under which key, by which alert, and whether that is over.

A key answers the same run for as long as it is kept, whatever has become of the run. Its alert ends with its
run: what stands for a person's wish does not fire for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from remediator.model import AlertId
from remediator.store.tx import Tx, insert

_PUT = insert("started", "alert, key, at")
_OF = "SELECT alert FROM started WHERE key = :key"
_OVER = "UPDATE started SET ended_at = :now WHERE alert = :alert AND ended_at IS NULL"
# A run that puts a lease back does nothing about the alert.
_ENDED = """
SELECT alert FROM started WHERE ended_at IS NULL AND NOT EXISTS (
  SELECT 1 FROM run_alert JOIN run ON run.id = run_alert.run
  WHERE run_alert.alert = started.alert AND run.outcome IS NULL AND run.origin <> 'lease')
ORDER BY alert LIMIT :limit
"""


def of(tx: Tx, key: str) -> AlertId | None:
    """The alert that was opened under this key; None if there is none, or for the key ""."""
    row = tx.one(_OF, {"key": key}) if key else None
    return None if row is None else AlertId(row[0])


def note(tx: Tx, alert: AlertId, key: str) -> None:
    """A person has started what this alert stands for. Args: key: "" where it may not be repeated."""
    tx.run(_PUT, {"alert": alert, "key": key or None, "at": tx.now})


def over(tx: Tx, alert: int) -> None:
    """The alert has ended."""
    tx.run(_OVER, {"alert": alert, "now": tx.now})


def ended(tx: Tx, limit: int) -> Sequence[AlertId]:
    """The alerts that are open although every run about them has ended, oldest first."""
    return [AlertId(row[0]) for row in tx.all(_ENDED, {"limit": limit})]
