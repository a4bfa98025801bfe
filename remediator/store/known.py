"""The alerts that are open or have just ended, in memory: what tells a new episode from a repeat.

Owned by the one writer; at most about 400 bytes for each alert. The rows are the truth, this is
read from them when the store opens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from remediator.model import Status

LOAD = """
SELECT id, sender, fingerprint, starts_at, sent_starts_at, status, digest, resolved_at, last_event
FROM alert WHERE resolved_at IS NULL OR resolved_at > :horizon ORDER BY id
"""
LAST_FORGOTTEN = "SELECT MAX(resolved_at) FROM alert WHERE resolved_at <= :horizon"


class Known(msgspec.Struct, gc=False):
    """One alert. Replaced, never changed, but for seen_at: so an undo puts the former one back.

    gc=False: hundreds of thousands of them would make every collection slow; they hold no cycles.
    """

    id: int
    starts_at: int
    sent: int
    """startsAt as the sender said it; starts_at is the episode's, which differs at times."""
    status: Status
    digest: int
    resolved_at: int | None
    event: int
    """The alert_event that changed it last."""
    seen_at: int | None


class KnownAlerts:
    """The dictionary, with an undo log for the transaction under way."""

    def __init__(self) -> None:
        self.by_sender: dict[str, dict[str, Known]] = {}
        self.forgotten_until = -1
        """An alert that starts later than this, and is not here, is new: no look-up is needed."""
        self._ended: deque[tuple[int, str, str]] = deque()
        self._undo: list[tuple[dict[str, Known], str, Known | None]] = []

    def load(self, rows: Iterable[tuple[int, str, str, int, int | None, str, int, int | None, int]]) -> None:
        """Take up rows of `LOAD`, oldest first."""
        statuses = {status.value: status for status in Status}
        for id, sender, fingerprint, starts_at, sent, status, digest, resolved_at, event in rows:
            self.of(sender)[fingerprint] = Known(
                id,
                starts_at,
                starts_at if sent is None else sent,
                statuses[status],
                digest,
                resolved_at,
                event,
                None,
            )
            if resolved_at is not None:
                self._ended.append((resolved_at, sender, fingerprint))
        self._ended = deque(sorted(self._ended))

    def of(self, sender: str) -> dict[str, Known]:
        """A sender's alerts by fingerprint."""
        found = self.by_sender.get(sender)
        if found is None:
            found = self.by_sender[sender] = {}
        return found

    def put(self, own: dict[str, Known], sender: str, fingerprint: str, known: Known) -> None:
        """Replace an alert until the transaction says otherwise."""
        self._undo.append((own, fingerprint, own.get(fingerprint)))
        own[fingerprint] = known
        if known.resolved_at is not None:
            self._ended.append((known.resolved_at, sender, fingerprint))

    def mark(self) -> int:
        """A place in the undo log."""
        return len(self._undo)

    def rollback(self, mark: int = 0) -> None:
        """Undo everything since the mark."""
        while len(self._undo) > mark:
            own, fingerprint, former = self._undo.pop()
            if former is None:
                del own[fingerprint]
            else:
                own[fingerprint] = former

    def commit(self) -> None:
        """What was put stays."""
        self._undo.clear()

    def forget(self, horizon: int) -> None:
        """Let go of alerts that ended before the horizon. Only between transactions."""
        while self._ended and self._ended[0][0] <= horizon:
            resolved_at, sender, fingerprint = self._ended.popleft()
            own = self.by_sender[sender]
            known = own.get(fingerprint)
            if known is not None and known.resolved_at == resolved_at:
                del own[fingerprint]
                self.forgotten_until = max(self.forgotten_until, resolved_at)

    def drop(self, sender: str, fingerprint: str, id: int) -> None:
        """An alert's row was pruned."""
        own = self.by_sender.get(sender, {})
        known = own.get(fingerprint)
        if known is not None and known.id == id:
            del own[fingerprint]

    def seen_at(self, sender: str, fingerprint: str, id: int) -> int | None:
        """When an alert was delivered last, repeats included; None if not since the store opened."""
        known = self.by_sender.get(sender, {}).get(fingerprint)
        return known.seen_at if known is not None and known.id == id else None

    def firing(self) -> int:
        """How many are open. Counts them all: for metrics, not for the intake path."""
        return sum(known.resolved_at is None for own in self.by_sender.values() for known in own.values())
