"""When alerts were delivered last: kept together for a few seconds, then shared with the other replicas."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from remediator.contracts import Receiver
from remediator.model import Episode, Instant
from remediator.store.history import History
from remediator.store.tx import Row, Tx

_PUT = """
INSERT INTO alert_seen (alert, seen_at)
SELECT * FROM unnest(CAST(:alerts AS bigint[]), CAST(:times AS bigint[]))
ON CONFLICT (alert) DO UPDATE SET seen_at = GREATEST(alert_seen.seen_at, excluded.seen_at)
"""
_FIND = "SELECT alert, seen_at FROM alert_seen WHERE alert = ANY(:ids)"
FORGET = "DELETE FROM alert_seen WHERE alert NOT IN (SELECT id FROM alert)"


class Seen:
    """What this process has seen and not yet shared. Told by the intake's thread, read by others."""

    def __init__(self) -> None:
        self.opened_at = Instant(0)
        self._lock = threading.Lock()
        self._fresh: dict[int, int] = {}
        self._lately: dict[int, int] = {}

    def note(self, seen: Iterable[tuple[int, int]]) -> None:
        """Alerts and when they were delivered."""
        with self._lock:
            self._fresh.update(seen)

    def take(self) -> Mapping[int, int]:
        """What is to be shared now; stays readable until `shared`."""
        with self._lock:
            return dict(self._fresh)

    def shared(self, taken: Mapping[int, int]) -> None:
        """It is in the database."""
        with self._lock:
            self._lately = dict(taken)  # for a reader whose snapshot is from before
            for alert, at in taken.items():
                if self._fresh.get(alert) == at:
                    del self._fresh[alert]

    def of(self, tx: Tx, ids: Sequence[int]) -> Mapping[int, int]:
        """The latest delivery to any replica since this store was opened. What came before that is
        not known: while no daemon ran, an alert may have ended unheard."""
        rows = tx.all(_FIND, {"ids": list(ids)})
        found = {alert: at for alert, at in rows if at > self.opened_at}
        with self._lock:
            for id in ids:
                own = max(self._fresh.get(id, 0), self._lately.get(id, 0))
                if own > found.get(id, 0):
                    found[id] = own
        return found


def put(tx: Tx, taken: Mapping[int, int]) -> None:
    """Share it, always in the same order, so that two replicas do not block each other."""
    alerts = sorted(taken)
    tx.run(_PUT, {"alerts": alerts, "times": [taken[alert] for alert in alerts]})


class SharedHistory(History):
    """Episodes, with what any replica has seen of them."""

    def __init__(self, receivers: Mapping[str, Receiver], seen: Seen) -> None:
        super().__init__(receivers, None)
        self._seen = seen

    def _told(self, tx: Tx, rows: Sequence[Row]) -> Sequence[Episode]:
        found = super()._told(tx, rows)
        if not found:
            return found
        seen = self._seen.of(tx, [one.id for one in found])
        return [
            msgspec.structs.replace(one, seen_at=Instant(seen[one.id])) if one.id in seen else one
            for one in found
        ]
