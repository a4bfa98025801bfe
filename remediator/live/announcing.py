"""A store that tells the hub what it has just committed."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import Any, cast

from remediator.contracts import (
    Admission,
    Claimant,
    Delivery,
    Held,
    IncidentChange,
    Jumping,
    Match,
    Move,
    Receipt,
    Store,
)
from remediator.live.hub import Hub, Kind
from remediator.model import (
    Approval,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Effect,
    Incident,
    Instant,
    Message,
    Millis,
    Run,
    RunId,
)

NEW = 0
"""In place of an incident's id: there may be a new one."""


class _Announcing:
    """Everything but these methods is the store's own."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | Future[Receipt]:
        taken = self._store.offer(delivery, match, claimant)
        if isinstance(taken, Receipt):
            self._taken(taken)
        else:
            taken.add_done_callback(self._promised)
        return taken

    async def accept(self, delivery: Delivery, match: Match, claimant: Claimant | None = None) -> Receipt:
        receipt = await self._store.accept(delivery, match, claimant)
        self._taken(receipt)
        return receipt

    def _promised(self, promise: Future[Receipt]) -> None:
        if not promise.cancelled() and promise.exception() is None:
            self._taken(promise.result())

    def _taken(self, receipt: Receipt) -> None:
        for run in receipt.runs:
            self._hub.tell(Kind.RUN, run)

    async def move(self, run: Run, move: Move) -> Run:
        moved = await self._store.move(run, move)
        self._hub.tell(Kind.RUN, run.id)
        for control in move.controls:
            self._hub.tell(Kind.CONTROL, f"{control.kind}:{control.scope}")
        if move.effects or move.effect_done or move.effect_extend:
            self._hub.tell(Kind.EFFECT, run.id)
        if move.incident is not None:
            self._hub.tell(Kind.INCIDENT, NEW)
        return moved

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        answer = await self._store.admit(run, admission)
        self._hub.tell(Kind.RUN, run.id)
        return answer

    async def cancel(self, run: RunId, event: AuditEvent) -> Run:
        cancelled = await self._store.cancel(run, event)
        self._hub.tell(Kind.RUN, run)
        return cancelled

    async def set_control(
        self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()
    ) -> Control:
        stands = await self._store.set_control(control, event, messages)
        self._hub.tell(Kind.CONTROL, f"{control.kind}:{control.scope}")
        return stands

    async def jumped(
        self,
        by: Millis,
        control: Control,
        event: AuditEvent,
        messages: Sequence[Message] = (),
        clock: Jumping | None = None,
    ) -> None:
        await self._store.jumped(by, control, event, messages, clock)
        self._hub.tell(Kind.CONTROL, f"{control.kind}:{control.scope}")

    async def trip(self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()) -> bool:
        tripped = await self._store.trip(control, event, messages)
        if tripped:
            self._hub.tell(Kind.CONTROL, f"{control.kind}:{control.scope}")
        return tripped

    async def decide(self, id: int, decision: Decision, event: AuditEvent) -> Approval:
        decided = await self._store.decide(id, decision, event)
        self._hub.tell(Kind.RUN, decided.run)
        return decided

    async def clear_control(self, kind: ControlKind, scope: str, event: AuditEvent) -> bool:
        cleared = await self._store.clear_control(kind, scope, event)
        self._hub.tell(Kind.CONTROL, f"{kind}:{scope}")
        return cleared

    async def change_incident(self, incident: Incident, change: IncidentChange) -> Incident | None:
        changed = await self._store.change_incident(incident, change)
        if changed is not None:
            self._hub.tell(Kind.INCIDENT, incident.id)
        return changed

    async def renew_effect(self, id: int, until: Instant, event: AuditEvent) -> Effect:
        renewed = await self._store.renew_effect(id, until, event)
        self._hub.tell(Kind.EFFECT, renewed.run)
        return renewed

    async def recall_effect(self, id: int, event: AuditEvent) -> Run:
        run = await self._store.recall_effect(id, event)
        self._hub.tell(Kind.RUN, run.id)
        return run


def announcing(store: Store, hub: Hub) -> Store:
    """The store, telling `hub` of runs, controls and effects that change."""
    return cast(Store, _Announcing(store, hub))
