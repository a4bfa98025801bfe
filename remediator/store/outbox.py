"""The outbox: notifications that are written with the change they tell of, and sent later."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.contracts import Outgoing
from remediator.errors import NotFound
from remediator.model import AuditEvent, Instant, Message
from remediator.store import trail
from remediator.store.rows import encode
from remediator.store.tx import Tx, insert

_INSERT = insert("outbox", "id, at, next_at, attempts, message, error, incident")
_DUE = """
SELECT id, at, attempts, message FROM outbox
WHERE sent_at IS NULL AND next_at <= :now ORDER BY next_at, id LIMIT :limit
"""
_SENT = "UPDATE outbox SET sent_at = :now, attempts = attempts + 1 WHERE id = :id AND sent_at IS NULL"
_FAILED = """
UPDATE outbox SET next_at = :retry_at, attempts = attempts + 1, error = :error
WHERE id = :id AND sent_at IS NULL
"""
_message = msgspec.json.Decoder(Message)


def post(tx: Tx, messages: Sequence[Message]) -> None:
    """Put messages into the outbox."""
    for message in messages:
        tx.run(
            _INSERT,
            {
                "id": tx.id("outbox"),
                "at": tx.now,
                "next_at": tx.now,
                "attempts": 0,
                "message": encode(message),
                "error": "",
                "incident": message.incident,
            },
        )


def due(tx: Tx, limit: int) -> Sequence[Outgoing]:
    """The messages to be sent now, oldest first."""
    return [outgoing(*row) for row in tx.all(_DUE, {"now": tx.now, "limit": limit})]


def outgoing(id: int, at: int, attempts: int, message: str) -> Outgoing:
    """A row as a value."""
    return Outgoing(id=id, at=Instant(at), attempts=attempts, message=_message.decode(message))


def sent(tx: Tx, id: int, event: AuditEvent) -> None:
    """Record that a message went out.

    Raises:
        NotFound: there is no unsent message of that id.
    """
    if not tx.run(_SENT, {"now": tx.now, "id": id}):
        raise NotFound(f"no unsent message has the id {id}")
    trail.append(tx, (event,))


def failed(tx: Tx, id: int, retry_at: Instant, error: str) -> None:
    """Record a failed try and when the next one is due.

    Raises:
        NotFound: there is no unsent message of that id.
    """
    if not tx.run(_FAILED, {"retry_at": retry_at, "error": error[:4_000], "id": id}):
        raise NotFound(f"no unsent message has the id {id}")
