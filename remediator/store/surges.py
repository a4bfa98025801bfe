"""How many new episodes each sender brought, second by second: what the storm breaker counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remediator.contracts import Arrivals
from remediator.model import SECOND, Instant
from remediator.store.tx import Tx, Values

ADD = """
INSERT INTO episode_count (sender, at, count) VALUES (:sender, :at, :count)
ON CONFLICT (sender, at) DO UPDATE SET count = episode_count.count + excluded.count
"""
_ALL = "SELECT sender, at, count FROM episode_count WHERE at > :after ORDER BY sender, at"
_ONE = "SELECT sender, at, count FROM episode_count WHERE sender = :sender AND at > :after ORDER BY at"
_SUM = "SELECT SUM(count) FROM episode_count WHERE sender = :sender AND at > :after"


def second(at: Instant) -> Instant:
    """The second that an instant belongs to, as the instant at which it began."""
    return Instant(at - at % SECOND)


def add(tx: Tx, counts: Mapping[tuple[str, Instant], int]) -> None:
    """Add what a group of deliveries brought, by sender and second. In order: two groups that meet on
    PostgreSQL then wait for each other the same way round."""
    tx.many(ADD, rows(counts))


def rows(counts: Mapping[tuple[str, Instant], int]) -> Sequence[Values]:
    """The parameters of `ADD`, in order."""
    return [{"sender": sender, "at": at, "count": count} for (sender, at), count in sorted(counts.items())]


def arrivals(tx: Tx, after: Instant, sender: str | None) -> Sequence[Arrivals]:
    """What came since then, of one sender or of all, each oldest first."""
    rows = (
        tx.all(_ALL, {"after": after}) if sender is None else tx.all(_ONE, {"sender": sender, "after": after})
    )
    return [Arrivals(sender=name, at=Instant(at), count=count) for name, at, count in rows]


def since(tx: Tx, sender: str, after: Instant) -> int:
    """How many came since then."""
    row = tx.one(_SUM, {"sender": sender, "after": after})
    return int(row[0]) if row is not None and row[0] is not None else 0
