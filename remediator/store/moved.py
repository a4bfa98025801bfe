"""The mark on a store that was copied elsewhere: its runs go on there, and must not go on here too."""

from __future__ import annotations

from remediator.errors import ConfigurationError
from remediator.model import AuditEvent
from remediator.store import trail
from remediator.store.tx import Tx, insert

KEY = "moved"
_SET = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"
_GET = "SELECT value FROM meta WHERE key = 'moved'"
_DROP = "DELETE FROM meta WHERE key = 'moved'"


def mark(tx: Tx, to: str) -> None:
    """This store was copied. Args: to: the other store, without its password."""
    tx.run(_SET, {"key": KEY, "value": to})


def unmark(tx: Tx) -> None:
    """It was not."""
    tx.run(_DROP)


def where(tx: Tx) -> str:
    """The store to which this one was copied; "" for a store in use."""
    row = tx.one(_GET)
    return "" if row is None else str(row[0])


def refuse(tx: Tx) -> None:
    """Raise ConfigurationError for a daemon that would go on here with what goes on elsewhere."""
    to = where(tx)
    if to:
        raise ConfigurationError(
            f"store.url: this store was copied to {to}, where its runs go on: set store.url to that. "
            "Should that copy never have been used: remediator store reopen --comment …"
        )


def reopen(tx: Tx, comment: str, actor: str) -> str:
    """Take the store into use again; returns where it had been copied to, "" if it had not."""
    to = where(tx)
    if to:
        unmark(tx)
        trail.append(tx, (AuditEvent(kind="store.reopened", actor=actor, observed=to, allowed=comment),))
    return to
