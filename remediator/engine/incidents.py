"""Looks after open incidents: calls the steps of their chains in time, says how they stand, and ends them.

Every replica does this. What is due is computed from the row and written with the messages in one
transaction, which only one of them can make: each thing is told once. Nothing is kept in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from remediator import metrics
from remediator.contracts import IncidentChange, Store
from remediator.engine.headline import following
from remediator.engine.incident import Turn, chain, next_call, turn
from remediator.engine.policies import Policies
from remediator.errors import Conflict, NotFound, StoreError
from remediator.model import (
    MINUTE,
    SECOND,
    AuditEvent,
    Incident,
    IncidentId,
    Instant,
    Message,
    Millis,
    Run,
    RunId,
    Severity,
    State,
    span,
)
from remediator.notify import incident as texts
from remediator.notify.audience import Heard, Routing
from remediator.notify.incident import Course, Facts, Text
from remediator.policy.escalation import Escalation, Step
from remediator.policy.schema import Policy

log = structlog.get_logger()

_BATCH = 100
_COURSES = 20
"""Runs that one message speaks of, the latest; an incident may have very many."""
_LAGGING = Millis(30 * SECOND)
"""How long a process that cannot load the active policies leaves incidents to those that can."""


EVERY = Millis(15 * MINUTE)
"""From one status update to the next, as the runbooks have it."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What the settings say of how people are told."""

    routing: Routing
    every: Millis = EVERY
    channel: str = ""
    war_room: str = ""
    public_names: tuple[tuple[str, str], ...] = ()


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
        self._told = told
        self._idle = idle

    async def run(self) -> None:
        """Look after them until cancelled; a store that does not answer only makes it wait."""
        while True:
            pause = self._idle / SECOND
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
                events=(_event("incident.acknowledged", incident, actor, comment=comment),),
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
                policy = self._policy(run.policy)
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
                    _event(
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
        escalation = self._escalation
        steps = chain(escalation, incident.progress.chain, self._telling.routing.ourselves)
        deadline = escalation.deadline(incident.severity)
        due = turn(incident, steps, deadline, self._telling.every, now)
        facts = await self._facts(incident, now, due, steps)
        change = IncidentChange(
            progress=due.progress,
            next_at=due.next_at,
            events=_events(incident, due, deadline),
            messages=self._messages(facts, due),
        )
        if await self._store.change_incident(incident, change) is not None:
            self._after(change)

    async def _over(self, incident: Incident, actor: str = "", comment: str = "") -> Incident | None:
        now = await self._store.now()
        facts = await self._facts(incident, now)
        progress = incident.progress
        heard = self._telling.routing.heard("resolved", incident.severity, progress.called)
        said = _posts(
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
            events=(_event("incident.resolved", incident, actor or "daemon", comment=comment),),
            messages=said,
        )
        changed = await self._store.change_incident(incident, change)
        if changed is not None:
            self._after(change)
        return changed

    def _messages(self, facts: Facts, due: Turn) -> tuple[Message, ...]:
        """One text for those who are called or told for the first time, another for those who know."""
        incident, routing = facts.incident, self._telling.routing
        first = routing.split(due.names)
        if due.announce:
            others = routing.heard("declared", incident.severity)
            first = routing.split((*first.internal, *first.customers, *others.internal, *others.customers))
        said: tuple[Message, ...] = ()
        if due.announce or due.calls:
            why = "" if due.announce else _why(incident, due, facts.now)
            text = texts.declared(facts, why)
            said += _posts(incident, first, text, texts.declared_outside(facts), facts.courses)
        if due.update:
            heard = routing.heard("updated", incident.severity, incident.progress.called)
            rest = [name for name in (*heard.internal, *heard.customers) if name not in due.names]
            # The log hears of news also where nobody else does.
            if rest or not said:
                outside = texts.updated_outside(facts)
                said += _posts(incident, routing.split(rest), texts.updated(facts), outside, facts.courses)
        return said

    # ------------------------------------------------------------ what is known

    async def _facts(
        self, incident: Incident, now: Instant, due: Turn | None = None, steps: Sequence[Step] = ()
    ) -> Facts:
        runs = await self._store.incident_runs(incident.id)
        kept = [run for run in runs if run.id in incident.progress.news]
        courses = [await self._course(run, now) for run in _some(runs, kept)]
        after = due.progress if due is not None else incident.progress
        call = next_call(incident, after, steps)
        said = f"{', '.join(call[1].notify)} is called at {texts.clock(call[0])}" if call is not None else ""
        telling = self._telling
        return Facts(
            incident=incident,
            now=now,
            courses=tuple(courses),
            next_call=said,
            channel=telling.channel,
            war_room=telling.war_room,
            public_names=dict(telling.public_names),
        )

    async def _course(self, run: Run, now: Instant) -> Course:
        policy = self._policy(run.policy)
        episode = None
        with contextlib.suppress(NotFound):  # retention may have been here
            episode = await self._store.episode(run.alert)
        note = ""
        if run.outcome is not None:
            for record in await self._store.audit(run=run.id, kind=f"run.{run.outcome}", limit=1):
                note = str(record.event.data.get("note", ""))
        verifying = run.state is State.VERIFY and run.open
        return Course(
            run=run,
            episode=episode,
            intents=tuple(await self._store.intents(run.id)) if run.progress.number else (),
            next=following(run, now, policy.give_up if policy is not None else None),
            note=note,
            runbook=(policy.runbook or "") if policy is not None else "",
            eta=run.progress.verify_until if verifying else None,
        )

    @property
    def _escalation(self) -> Escalation:
        current = self._policies.current
        return current.escalation if current is not None else Escalation()

    def _policy(self, name: str) -> Policy | None:
        current = self._policies.current
        return current.policies.get(name) if current is not None else None

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


def _some(runs: Sequence[Run], kept: Sequence[Run]) -> list[Run]:
    """The latest runs, and those there is news of."""
    wanted = {run.id for run in (*runs[-_COURSES:], *kept[-_COURSES:])}
    return [run for run in runs if run.id in wanted]


def _must_be_open(incident: Incident) -> None:
    if incident.resolved_at is not None:
        raise Conflict(f"incident {incident.id} is resolved")


def _why(incident: Incident, due: Turn, now: Instant) -> str:
    so_far = ", ".join(incident.progress.called) or "nobody"
    return f"nobody has acknowledged for {span(now - incident.opened_at)}; called so far: {so_far}"


def _posts(
    incident: Incident, heard: Heard, inside: Text, outside: Text, courses: Sequence[Course]
) -> tuple[Message, ...]:
    """The texts as messages; the one for ourselves is also written to the log, so it always goes."""
    run = RunId(courses[-1].run.id) if courses else None
    said = [_message(incident, inside, heard.internal, run)]
    if heard.customers:
        said.append(_message(incident, outside, heard.customers, None, public=True))
    return tuple(said)


def _message(
    incident: Incident, text: Text, names: tuple[str, ...], run: RunId | None, public: bool = False
) -> Message:
    return Message(
        chain="",
        severity=incident.severity,
        subject=text[0],
        body=text[1],
        run=run,
        incident=incident.id,
        notifiers=names,
        public=public,
    )


def _event(
    kind: str, incident: Incident, actor: str = "daemon", run: Run | None = None, **data: object
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        actor=actor,
        alert=run.alert if run is not None else None,
        run=run.id if run is not None else None,
        policy=run.policy if run is not None else None,
        target=incident.target,
        data={"incident": incident.id, **data},
    )


def _events(incident: Incident, due: Turn, deadline: Millis | None) -> tuple[AuditEvent, ...]:
    """Each step that is told; and that the acknowledgement is overdue, also if nobody is left to call."""
    found: list[AuditEvent] = []
    for call in due.calls:
        by = "unacknowledged" if due.early and call is due.calls[-1] else "time"
        found.append(
            _event(
                "incident.escalated", incident, chain=incident.progress.chain, step=call.key,
                notifiers=list(call.names), because=by,
            )
        )  # fmt: skip
    if due.overdue and deadline is not None:
        event = _event("incident.overdue", incident, chain=incident.progress.chain)
        seen = f"not acknowledged for {span(deadline)}"
        found.append(
            msgspec.structs.replace(
                event, observed=seen, allowed=f"acknowledge_within {incident.severity}: {span(deadline)}"
            )
        )
    return tuple(found)
