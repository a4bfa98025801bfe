"""Bodies that could not be taken, kept within bounds so that a flood of them fills no disk."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import Bad
from remediator.store.limits import Limits
from remediator.store.tx import Tx, insert

_INSERT = insert("rejected", "id, at, sender, status, field, message, body")
_TOTAL = "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM rejected"
_OLDEST = "SELECT id, LENGTH(body) FROM rejected ORDER BY id LIMIT 100"
_DELETE = "DELETE FROM rejected WHERE id = :id"


class Rejected:
    """Keeps the newest; the oldest go when there are too many or they are too large."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total: tuple[int, int] | None = None

    def forget(self) -> None:
        """Count again next time: a transaction was rolled back, or rows were pruned."""
        self._total = None

    def keep(self, tx: Tx, sender: str, status: int, bad: Sequence[Bad]) -> None:
        """Write the rows, each body cut to its bound."""
        if not bad:
            return
        count, size = self._total or self._count(tx)
        for one in bad:
            body = one.body[: self._limits.rejected_body]
            tx.run(
                _INSERT,
                {
                    "id": tx.id("rejected"),
                    "at": tx.now,
                    "sender": sender,
                    "status": status,
                    "field": one.field,
                    "message": one.message,
                    "body": body,
                },
            )
            count, size = count + 1, size + len(body)
        while count > self._limits.rejected_rows or size > self._limits.rejected_bytes:
            oldest = tx.all(_OLDEST)
            if not oldest:
                break
            for id, length in oldest:
                if count <= self._limits.rejected_rows and size <= self._limits.rejected_bytes:
                    break
                tx.run(_DELETE, {"id": id})
                count, size = count - 1, size - length
        self._total = (count, size)

    def _count(self, tx: Tx) -> tuple[int, int]:
        row = tx.one(_TOTAL)
        return (0, 0) if row is None else (row[0], row[1])
