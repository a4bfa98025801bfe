"""What was said once and must not be said again, by a key."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.model import Instant
from remediator.store.tx import Tx, insert

_PREFIX = "said:"
_SAY = insert("meta", "key, value") + "\nON CONFLICT (key) DO NOTHING"
_SAID = "SELECT 1 FROM meta WHERE key = :key"
_FORGET = "DELETE FROM meta WHERE key LIKE 'said:%' AND value < :now"


def once(tx: Tx, key: str, keep: Instant) -> bool:
    """Note that it is said; False if it was already.

    Args:
        keep: how long this must be remembered.
    """
    if not tx.run(_SAY, {"key": _PREFIX + key, "value": _text(keep)}):
        return False
    tx.run(_FORGET, {"now": _text(tx.now)})
    return True


def said(tx: Tx, keys: Sequence[str]) -> frozenset[str]:
    """Which of these have been said."""
    return frozenset(key for key in keys if tx.one(_SAID, {"key": _PREFIX + key}) is not None)


def _text(instant: Instant) -> str:
    """With leading zeros, so that texts compare as the instants do."""
    return f"{instant:020}"
