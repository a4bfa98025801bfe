"""What the audit log holds."""

from __future__ import annotations

from typing import Any

from remediator.model.time import Instant
from remediator.model.value import AlertId, RunId, Struct


class AuditEvent(Struct, frozen=True, kw_only=True):
    """One line of the audit log, before the store gives it an id and a time. Kind is noun.verb."""

    kind: str
    actor: str = "daemon"
    alert: AlertId | None = None
    run: RunId | None = None
    policy: str | None = None
    target: str | None = None
    reason: str | None = None
    observed: str | None = None
    allowed: str | None = None
    data: dict[str, Any] = {}


class AuditRecord(Struct, frozen=True, kw_only=True):
    """A stored audit event. Ids of deliveries and of events are told apart by `source`."""

    id: int
    at: Instant
    event: AuditEvent
    source: str = "audit_event"
