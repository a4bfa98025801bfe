"""Looks after open incidents: calls the steps of their chains in time, says how they stand, and ends them.

Every replica does this. What is due is computed from the row and written with the messages in one
transaction, which only one of them can make: each thing is told once. Nothing is kept in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from remediator import metrics
from remediator.clock import beat
from remediator.contracts import IncidentChange, Store
from remediator.engine.incident.facts import Known
from remediator.engine.incident.telling import Telling, event, events, messages, posts
from remediator.engine.incident.turn import chain, turn
from remediator.engine.policies import Policies
from remediator.errors import Conflict, StoreError
from remediator.model import SECOND, Incident, IncidentId, Instant, Millis, Run, Severity
from remediator.notify import incident as texts

log = structlog.get_logger()

_BATCH = 100
_LAGGING = Millis(30 * SECOND)
"""How long a process that cannot load the active policies leaves incidents to those that can."""


class Incidents:
    """Runs until cancelled.

    Args:
        told: called when messages were posted: the outbox may look at once.
        idle: milliseconds between two looks when nothing is due before.
    """

    def __init__(
        self,
        store: Store,
        policies: Policies,
        telling: Telling,
        told: Callable[[], None] = lambda: None,
        idle: Millis = Millis(SECOND),
    ) -> None:
        self._store = store
        self._policies = policies
        self._telling = telling
        self._known = Known(store, policies, telling)
        self._told = told
        self._idle = idle

    async def run(self) -> None:
        """Look after them until cancelled; a store that does not answer only makes it wait."""
        while True:
            pause = beat(self._idle / SECOND) - asyncio.get_running_loop().time()
            try:
                due = await self.once()
                left = pause if due is None else (due - await self._store.now()) / SECOND
                # What is still due could not be done now: it must not be asked for without a pause.
                pause = min(pause, max(0.01, left)) if left > 0 else pause
            except StoreError as error:
                log.warning("incidents.unreadable", error=str(error))
            await asyncio.sleep(pause)

    async def once(self) -> Instant | None:
        """Do what is due now; returns when something is due next. One question to the store where no
        incident is open, which is nearly always: an open one always has something to come."""
        if await self._store.next_incident_at() is None:
            _measured(())
            return None
        await self._join()
        for incident in await self._store.due_incidents(_BATCH):
            await self._guarded(incident, self._turn)
        after = IncidentId(0)
        while settled := await self._store.settled_incidents(after, _BATCH):
            for incident in settled:
                # Not before people were told of it, and never where only they can know.
                if incident.progress.announced and not incident.progress.by_person:
                    await self._guarded(incident, self._over)
            after = settled[-1].id
        _measured(await self._store.find_incidents(open=True, limit=1000))
        return await self._store.next_incident_at()

    # ------------------------------------------------------------ what people say

    async def acknowledge(self, id: IncidentId, actor: str, comment: str) -> Incident:
        """A person has it: no further call of the chain; status updates go on.

        Raises:
            NotFound: there is none.
            Conflict: it is resolved, or somebody has it already.
        """
        while True:
            incident = await self._store.incident(id)
            _must_be_open(incident)
            if incident.acknowledged_at is not None:
                raise Conflict(f"incident {id} is acknowledged already, by {incident.acknowledged_by}")
            change = IncidentChange(
                progress=msgspec.structs.replace(incident.progress, comment=comment),
                next_at=await self._store.now(),  # what is due anew is computed at the next look
                acknowledged_by=actor,
                events=(event("incident.acknowledged", incident, actor, comment=comment),),
            )
            changed = await self._store.change_incident(incident, change)
            if changed is not None:
                return changed

    async def resolve(self, id: IncidentId, actor: str, comment: str) -> Incident:
        """A person says that it is over.

        Raises:
            NotFound: there is none.
            Conflict: it is resolved already.
        """
        while True:
            incident = await self._store.incident(id)
            _must_be_open(incident)
            changed = await self._over(incident, actor, comment)
            if changed is not None:
                return changed

    # ------------------------------------------------------------ what is due

    async def _join(self) -> None:
        """Let runs on the target of an open incident become part of it; the gravest gives its severity."""
        joining: dict[IncidentId, list[Run]] = {}
        for id, run in await self._store.joining_runs(_BATCH):
            joining.setdefault(id, []).append(run)
        for id, runs in joining.items():
            incident = await self._store.incident(id)
            if not incident.open:
                continue
            gravest, progress = incident.severity, incident.progress
            for run in runs:
                policy = self._known.policy(run.policy)
                if policy is not None and policy.severity.rank < gravest.rank:
                    gravest = policy.severity
                    progress = msgspec.structs.replace(
                        progress, chain=policy.escalate or progress.chain, policy=policy.name
                    )
            graver = gravest is not incident.severity
            change = IncidentChange(
                progress=progress,
                next_at=await self._store.now() if graver else incident.next_at,
                severity=gravest,
                runs=tuple(run.id for run in runs),
                events=tuple(
                    event(
                        "incident.updated", incident, run=run, severity=gravest, was=incident.severity.value
                    )
                    for run in runs
                ),
            )
            await self._store.change_incident(incident, change)

    async def _turn(self, incident: Incident) -> None:
        now = await self._store.now()
        if not self._policies.usable and incident.next_at is not None and now - incident.next_at < _LAGGING:
            return
        escalation = self._known.escalation
        steps = chain(escalation, incident.progress.chain, self._telling.routing.ourselves)
        deadline = escalation.deadline(incident.severity)
        due = turn(incident, steps, deadline, self._telling.every, now)
        facts = await self._known.facts(incident, now, due, steps)
        change = IncidentChange(
            progress=due.progress,
            next_at=due.next_at,
            events=events(incident, due, deadline),
            messages=messages(self._telling.routing, facts, due),
        )
        if await self._store.change_incident(incident, change) is not None:
            self._after(change)

    async def _over(self, incident: Incident, actor: str = "", comment: str = "") -> Incident | None:
        now = await self._store.now()
        facts = await self._known.facts(incident, now)
        progress = incident.progress
        heard = self._telling.routing.heard("resolved", incident.severity, progress.called)
        said = posts(
            incident,
            heard,
            texts.resolved(facts, actor, comment),
            texts.resolved_outside(facts),
            facts.courses,
        )
        change = IncidentChange(
            progress=msgspec.structs.replace(progress, comment=comment or progress.comment, news=()),
            next_at=None,
            resolved=True,
            events=(event("incident.resolved", incident, actor or "daemon", comment=comment),),
            messages=said,
        )
        changed = await self._store.change_incident(incident, change)
        if changed is not None:
            self._after(change)
        return changed

    # ------------------------------------------------------------ around it

    async def _guarded(self, incident: Incident, work: Callable[[Incident], object]) -> None:
        """A fault with one incident must not keep people from hearing of the others."""
        try:
            await work(incident)  # type: ignore[misc]
        except StoreError:
            raise
        except Exception:
            log.exception("incident.fault", incident=incident.id)

    def _after(self, change: IncidentChange) -> None:
        if change.messages:
            self._told()


def _measured(found: Sequence[Incident]) -> None:
    for severity in Severity:
        metrics.OPEN_INCIDENTS.labels(severity.value).set(sum(one.severity is severity for one in found))
    late = [one for one in found if one.acknowledged_at is None and one.progress.overdue_at is not None]
    metrics.OVERDUE_INCIDENTS.set(len(late))


def _must_be_open(incident: Incident) -> None:
    if incident.resolved_at is not None:
        raise Conflict(f"incident {incident.id} is resolved")
