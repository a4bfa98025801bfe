"""What is said of an incident, to whom, and what the audit log keeps of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from remediator.engine.incident.turn import Turn
from remediator.model import MINUTE, AuditEvent, Incident, Instant, Message, Millis, Run, RunId, span
from remediator.notify import incident as texts
from remediator.notify.audience import Heard, Routing
from remediator.notify.incident import Course, Facts, Text

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


def messages(routing: Routing, facts: Facts, due: Turn) -> tuple[Message, ...]:
    """One text for those who are called or told for the first time, another for those who know."""
    incident = facts.incident
    first = routing.split(due.names)
    if due.announce:
        others = routing.heard("declared", incident.severity)
        first = routing.split((*first.internal, *first.customers, *others.internal, *others.customers))
    said: tuple[Message, ...] = ()
    if due.announce or due.calls:
        why = "" if due.announce else _why(incident, due, facts.now)
        text = texts.declared(facts, why)
        said += posts(incident, first, text, texts.declared_outside(facts), facts.courses)
    if due.update:
        heard = routing.heard("updated", incident.severity, incident.progress.called)
        rest = [name for name in (*heard.internal, *heard.customers) if name not in due.names]
        # The log hears of news also where nobody else does.
        if rest or not said:
            outside = texts.updated_outside(facts)
            said += posts(incident, routing.split(rest), texts.updated(facts), outside, facts.courses)
    return said


def _why(incident: Incident, due: Turn, now: Instant) -> str:
    so_far = ", ".join(incident.progress.called) or "nobody"
    return f"nobody has acknowledged for {span(now - incident.opened_at)}; called so far: {so_far}"


def posts(
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


def event(
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


def events(incident: Incident, due: Turn, deadline: Millis | None) -> tuple[AuditEvent, ...]:
    """Each step that is told; and that the acknowledgement is overdue, also if nobody is left to call."""
    found: list[AuditEvent] = []
    for call in due.calls:
        by = "unacknowledged" if due.early and call is due.calls[-1] else "time"
        found.append(
            event(
                "incident.escalated", incident, chain=incident.progress.chain, step=call.key,
                notifiers=list(call.names), because=by,
            )
        )  # fmt: skip
    if due.overdue and deadline is not None:
        overdue = event("incident.overdue", incident, chain=incident.progress.chain)
        seen = f"not acknowledged for {span(deadline)}"
        found.append(
            msgspec.structs.replace(
                overdue, observed=seen, allowed=f"acknowledge_within {incident.severity}: {span(deadline)}"
            )
        )
    return tuple(found)
