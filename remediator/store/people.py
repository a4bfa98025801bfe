"""What people are asked and told, as methods of `contracts.Store` that are the same on every engine."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import (
    IncidentChange,
    NotifierState,
    Outgoing,
)
from remediator.model import (
    AlertId,
    Approval,
    AuditEvent,
    Decision,
    Incident,
    IncidentId,
    Instant,
    Message,
    Run,
    RunId,
)
from remediator.store import (
    approvals,
    incidents,
    outbox,
)
from remediator.store.access import SqlAccess


class SqlPeople(SqlAccess):
    """Each method is one piece of work."""

    # ------------------------------------------------------------ approvals

    async def approval_number(self) -> int:
        # Need not be synced: a number that a crash takes back was never told to anybody.
        return await self._write(lambda tx: tx.id("approval"), sync=False)

    async def approval(self, id: int) -> Approval:
        return await self._look(lambda tx: approvals.one(tx, id))

    async def approvals(
        self, *, run: RunId | None = None, open: bool | None = None, limit: int = 100
    ) -> Sequence[Approval]:
        return await self._look(lambda tx: approvals.find(tx, run, open, limit))

    async def decide(self, id: int, decision: Decision, event: AuditEvent) -> Approval:
        return await self._write(
            lambda tx: approvals.decide(tx, id, decision, event), point="decide", qualifier=decision.value
        )

    # ------------------------------------------------------------ incidents

    async def incident(self, id: IncidentId) -> Incident:
        return await self._look(lambda tx: incidents.one(tx, id))

    async def find_incidents(
        self,
        *,
        open: bool | None = None,
        run: RunId | None = None,
        alert: AlertId | None = None,
        before: IncidentId | None = None,
        limit: int = 100,
    ) -> Sequence[Incident]:
        return await self._read(
            lambda tx: incidents.find(tx, open=open, run=run, alert=alert, before=before, limit=limit)
        )

    async def incident_runs(self, id: IncidentId) -> Sequence[Run]:
        return await self._look(lambda tx: incidents.runs(tx, id))

    async def due_incidents(self, limit: int) -> Sequence[Incident]:
        return await self._look(lambda tx: incidents.due(tx, limit))

    async def settled_incidents(self, after: IncidentId, limit: int) -> Sequence[Incident]:
        return await self._look(lambda tx: incidents.settled(tx, after, limit))

    async def joining_runs(self, limit: int) -> Sequence[tuple[IncidentId, Run]]:
        return await self._look(lambda tx: incidents.joining(tx, limit))

    async def next_incident_at(self) -> Instant | None:
        return await self._look(incidents.next_at)

    async def change_incident(self, incident: Incident, change: IncidentChange) -> Incident | None:
        return await self._write(lambda tx: incidents.change(tx, incident, change), point="incident")

    # ------------------------------------------------------------ outbox

    async def due_messages(self, limit: int) -> Sequence[Outgoing]:
        if not await self._look(outbox.any_due):
            return []
        found, failing = await self._read(lambda tx: (outbox.due(tx, limit), outbox.failing(tx)))
        if any(one.notifier in failing for one in found):
            found = await self._write(lambda tx: outbox.probes(tx, found))
        return found

    async def spread_message(self, id: int, notifiers: Sequence[str]) -> bool:
        return await self._write(lambda tx: outbox.spread(tx, id, notifiers))

    async def message_sent(self, id: int, event: AuditEvent) -> NotifierState | None:
        return await self._write(lambda tx: outbox.sent(tx, id, event))

    async def message_failed(self, id: int, retry_at: Instant, error: str) -> NotifierState | None:
        return await self._write(lambda tx: outbox.failed(tx, id, retry_at, error))

    async def abandon_messages(self, notifier: str, before: Instant, event: AuditEvent) -> int:
        return await self._write(lambda tx: outbox.abandon(tx, notifier, before, event))

    async def notifiers(self) -> Sequence[NotifierState]:
        return await self._look(outbox.states)

    async def tell_notifier(
        self, name: str, failing: bool, event: AuditEvent, messages: Sequence[Message]
    ) -> bool:
        return await self._write(lambda tx: outbox.tell(tx, name, failing, event, messages))
