"""The incidents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remediator.model import (
    AlertId,
    AuditEvent,
    Incident,
    IncidentId,
    IncidentProgress,
    Instant,
    Message,
    Run,
    RunId,
    Severity,
    Struct,
)


class IncidentChange(Struct, frozen=True, kw_only=True):
    """One transaction on an incident, made only if nobody has changed it since it was read.

    runs: that join it. acknowledged_by: a person has it now. resolved: it is over.
    """

    progress: IncidentProgress
    next_at: Instant | None
    severity: Severity | None = None
    acknowledged_by: str | None = None
    resolved: bool = False
    runs: tuple[RunId, ...] = ()
    events: tuple[AuditEvent, ...] = ()
    messages: tuple[Message, ...] = ()


class Incidents(Protocol):
    """Incidents, each with its runs."""

    async def incident(self, id: IncidentId) -> Incident: ...

    async def find_incidents(
        self,
        *,
        open: bool | None = None,
        run: RunId | None = None,
        alert: AlertId | None = None,
        before: IncidentId | None = None,
        limit: int = 100,
    ) -> Sequence[Incident]:
        """Newest first. By alert: those of its runs."""

    async def incident_runs(self, id: IncidentId) -> Sequence[Run]:
        """The runs of an incident, oldest first."""

    async def due_incidents(self, limit: int) -> Sequence[Incident]:
        """Open incidents on which something is to be said by now, the longest due first."""

    async def settled_incidents(self, after: IncidentId, limit: int) -> Sequence[Incident]:
        """Open incidents behind this id of which no run is open, no alert fires, and whose target is
        not quarantined."""

    async def joining_runs(self, limit: int) -> Sequence[tuple[IncidentId, Run]]:
        """Runs, open or lately ended, on the target of an open incident that they are not yet part of."""

    async def next_incident_at(self) -> Instant | None:
        """When something is to be said next."""

    async def change_incident(self, incident: Incident, change: IncidentChange) -> Incident | None:
        """Apply a change; None if it was changed since it was read, and nothing was written."""
