"""Appends audit events, in the transaction of the change that they describe."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.model import AuditEvent, AuditRecord
from remediator.store.rows import encode_bytes
from remediator.store.tx import Row, Tx, Values, insert

COLUMNS = "id, at, kind, alert, run, policy, target, body"
_INSERT = insert("audit_event", COLUMNS)
_record = msgspec.json.Decoder(AuditRecord)


def append(tx: Tx, events: Sequence[AuditEvent]) -> None:
    """Write the events, in order. The columns are an index; `body` is what counts and is sealed."""
    if not events:
        return
    first = tx.id("audit", len(events))
    rows = [tuple(_values(tx, first + offset, event).values()) for offset, event in enumerate(events)]
    tx.append("audit_event", COLUMNS, rows)


def append_as(tx: Tx, id: int, event: AuditEvent) -> None:
    """Write one event under an id that the caller has taken."""
    tx.run(_INSERT, _values(tx, id, event))


def record(body: bytes) -> AuditRecord:
    """The event as it was written."""
    return _record.decode(body)


def true_to_body(row: Row) -> bool:
    """Whether a row's columns say what its sealed body says; otherwise someone changed them."""
    try:
        stored = record(row[7])
    except (msgspec.DecodeError, TypeError):
        return False
    event = stored.event
    told = (stored.id, stored.at, event.kind, event.alert, event.run, event.policy, event.target)
    return told == row[:7]


def _values(tx: Tx, id: int, event: AuditEvent) -> Values:
    return {
        "id": id,
        "at": tx.now,
        "kind": event.kind,
        "alert": event.alert,
        "run": event.run,
        "policy": event.policy,
        "target": event.target,
        "body": encode_bytes(AuditRecord(id=id, at=tx.now, event=event)),
    }
