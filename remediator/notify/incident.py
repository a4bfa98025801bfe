"""The three messages about an incident, as the runbooks have them: declared, status update, resolved.

Each is filled with what is known; what is not known is `unknown`, and nothing is made up. The text
for customers names no target, label, host, query or policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from remediator.model import Episode, Incident, Instant, Intent, IntentOutcome, Origin, Run, flat, span
from remediator.notify.text import lines as one_body

UNKNOWN = "unknown"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDED = {
    IntentOutcome.PENDING: "its outcome is not known yet",
    IntentOutcome.UNKNOWN: "its outcome is not known",
    IntentOutcome.NOT_APPLIED: "not applied",
}


@dataclass(frozen=True, slots=True)
class Course:
    """One run of an incident, with what is known of it.

    next: what the run does next, as the end of a sentence that starts with `it`; "" once it has ended.
    note: what its end said beside its reason.
    eta: when its verification ends at the latest.
    """

    run: Run
    episode: Episode | None
    intents: tuple[Intent, ...] = ()
    next: str = ""
    note: str = ""
    runbook: str = ""
    eta: Instant | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of an incident now.

    next_call: whom the chain calls next and when; "" where nobody is left or someone has it.
    """

    incident: Incident
    now: Instant
    courses: tuple[Course, ...]
    next_call: str = ""
    channel: str = ""
    war_room: str = ""
    public_names: Mapping[str, str] | None = None


Text = tuple[str, str]
"""Subject and body."""


def declared(facts: Facts, why: str = "") -> Text:
    """INCIDENT DECLARED; with `why`, the next call of a chain: nobody has answered so far."""
    incident = facts.incident
    head = "INCIDENT ESCALATED" if why else "INCIDENT DECLARED"
    lines = [
        f"Service: {_service(facts)}",
        f"Status: {_status(facts)}",
        f"Impact: {_impact(facts)}",
        f"ETA: {_eta(facts)}",
        f"Incident Channel: {_place(facts.channel, incident)}",
        f"War Room: {_place(facts.war_room, incident)}",
        *([f"Escalated: {why}"] if why else []),
        "",
        *_details(facts, facts.courses),
        f"Next Steps: {_next_steps(facts)}",
        f'Acknowledge: remediator incidents ack {incident.id} --comment "…"',
        f"Look: remediator incidents show {incident.id}",
    ]
    return f"{head} - {incident.severity}: {_service(facts)}", one_body(lines)


def updated(facts: Facts) -> Text:
    """STATUS UPDATE; with news, what has just ended stands in full."""
    incident = facts.incident
    elapsed = span(_whole_minutes(facts.now - incident.opened_at))
    news = [course for course in facts.courses if course.run.id in incident.progress.news]
    lines = [
        f"Time elapsed: {elapsed}",
        f"Current Status: {_status(facts)}",
        f"Actions Taken: {_actions(facts)}",
        f"Next Steps: {_next_steps(facts)}",
        f"ETA: {_eta(facts)}",
        f"Acknowledged: {_acknowledged(incident)}",
        *(["", *_details(facts, news)] if news else []),
        f"Look: remediator incidents show {incident.id}",
    ]
    return f"STATUS UPDATE - {elapsed} - {incident.severity}: {_service(facts)}", one_body(lines)


def resolved(facts: Facts, by: str = "", comment: str = "") -> Text:
    """INCIDENT RESOLVED. Args: by, comment: of the person who said so, if one did."""
    incident = facts.incident
    lines = [
        f"Service: {_service(facts)}",
        f"Duration: {span(_whole_minutes(facts.now - incident.opened_at))}",
        f"Root Cause: {UNKNOWN}",
        f"Resolution: {_resolution(facts, by, comment)}",
        f"Post-Mortem: {UNKNOWN}",
        f"Look: remediator incidents show {incident.id}",
    ]
    return f"INCIDENT RESOLVED - {incident.severity}: {_service(facts)}", one_body(lines)


def declared_outside(facts: Facts) -> Text:
    """For customers."""
    lines = [
        f"Service: {_public(facts)}",
        f"Status: {_public_status(facts)}",
        f"Impact: {UNKNOWN}",
        f"ETA: {UNKNOWN}",
    ]
    return f"Incident {facts.incident.id}: {_public(facts)}", one_body(lines)


def updated_outside(facts: Facts) -> Text:
    """For customers."""
    elapsed = span(_whole_minutes(facts.now - facts.incident.opened_at))
    lines = [
        f"Service: {_public(facts)}",
        f"Time elapsed: {elapsed}",
        f"Current Status: {_public_status(facts)}",
        f"ETA: {UNKNOWN}",
    ]
    return f"Incident {facts.incident.id}: update after {elapsed}", one_body(lines)


def resolved_outside(facts: Facts) -> Text:
    """For customers."""
    lines = [
        f"Service: {_public(facts)}",
        "Status: resolved",
        f"Duration: {span(_whole_minutes(facts.now - facts.incident.opened_at))}",
    ]
    return f"Incident {facts.incident.id}: resolved", one_body(lines)


# ---------------------------------------------------------------- what is known


def _service(facts: Facts) -> str:
    incident = facts.incident
    return "an unnamed target" if incident.target.startswith("policy:") else incident.target


def _public(facts: Facts) -> str:
    target = facts.incident.target
    for pattern, name in (facts.public_names or {}).items():
        if fnmatchcase(target, pattern):
            return name
    return "one of our services"


def _status(facts: Facts) -> str:
    """What the latest run says; and whether alerts fire still."""
    if not facts.courses:
        return UNKNOWN
    last = facts.courses[-1]
    run = last.run
    if run.outcome is None:
        said = f"policy {run.policy} {last.next or f'is in {run.state}'}"
    else:
        reason = f", because {run.reason}" if run.reason and run.reason.value != run.outcome.value else ""
        said = f"policy {run.policy}: {run.outcome}{reason}"
    return f"{said}; {_firing(facts)}"


def _firing(facts: Facts) -> str:
    episodes = [course.episode for course in facts.courses if course.episode is not None]
    if not episodes:
        return f"whether an alert fires is {UNKNOWN}"
    firing = sum(episode.firing for episode in episodes)
    return f"{firing} of {len(episodes)} alerts fire" if firing else "no alert fires any more"


def _impact(facts: Facts) -> str:
    """What the sender says of it. The daemon cannot know what users notice."""
    for course in facts.courses:
        if course.episode is not None and (said := course.episode.alert.annotations.get("impact")):
            return said
    return UNKNOWN


def _eta(facts: Facts) -> str:
    known = [course.eta for course in facts.courses if course.run.open and course.eta is not None]
    if not known:
        return UNKNOWN
    return f"healed, or known not to be, by {clock(max(known))}"


def _place(template: str, incident: Incident) -> str:
    return template.replace("{id}", str(incident.id)) if template else UNKNOWN


def _actions(facts: Facts) -> str:
    done = [_action(intent) for course in facts.courses for intent in course.intents]
    return "; ".join(done) or "nothing was changed"


def _action(intent: Intent) -> str:
    plan = intent.plan
    kind = "" if intent.kind == "apply" else f"{intent.kind} of "
    said = f"{kind}{plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}"
    ended = _ENDED.get(intent.outcome)
    return f"{said} ({ended})" if ended else said


def _next_steps(facts: Facts) -> str:
    incident = facts.incident
    steps = [f"policy {one.run.policy} {one.next}" for one in facts.courses if one.run.open and one.next]
    if incident.acknowledged_by is not None:
        steps.append(f"{incident.acknowledged_by} has it")
    elif facts.next_call:
        steps.append(facts.next_call)
    if not any(course.run.open for course in facts.courses):
        steps.append("remediator does nothing more by itself; a person must look")
    return "; ".join(steps)


def _acknowledged(incident: Incident) -> str:
    if incident.acknowledged_at is None:
        return "by nobody yet"
    return f"by {incident.acknowledged_by} at {clock(incident.acknowledged_at)}"


def _resolution(facts: Facts, by: str, comment: str) -> str:
    if by:
        return f"{by}: {comment}"
    applied = [
        _action(intent)
        for course in facts.courses
        for intent in course.intents
        if intent.outcome is IntentOutcome.APPLIED
    ]
    seen = "no alert fires any more"
    if any(
        course.episode is not None and course.episode.alert.status == "closed" for course in facts.courses
    ):
        seen += " (for one its data stopped, which is not recovery)"
    if not applied:
        return f"{seen}; remediator changed nothing"
    return f"{seen}; remediator did: {'; '.join(applied)}"


def _details(facts: Facts, courses: Sequence[Course]) -> list[str]:
    """What people need who have to go on where a run stopped."""
    lines: list[str] = []
    for course in courses:
        run = course.run
        lines.append(f"Run {run.id}: policy {run.policy}, {run.outcome or run.state}")
        if course.episode is not None:
            alert = course.episode.alert
            lines.append(
                f"Alert: {alert.labels.get('alertname', UNKNOWN)} from {alert.sender}, {alert.status}"
            )
        elif run.origin is Origin.LEASE:
            lines.append("Alert: none; the lease of an effect has ended")
        if run.observed or run.outcome is not None:
            lines += [f"Seen: {run.observed or UNKNOWN}", f"Wanted: {run.allowed or UNKNOWN}"]
        done = [one for one in course.intents if one.outcome is not IntentOutcome.NOT_APPLIED]
        for one in done:
            known = one.outcome is IntentOutcome.APPLIED
            lines.append(f"{'Done' if known else 'Not known whether it was done'}: {_bare(one)}")
        if not done:
            lines.append("Done: nothing was changed")
        if course.note:
            lines.append(f"Note: {course.note}")
        if course.runbook:
            lines.append(f"Runbook: {course.runbook}")
        lines.append("")
    return lines


def _bare(intent: Intent) -> str:
    plan = intent.plan
    return f"{plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}"


def _public_status(facts: Facts) -> str:
    if facts.incident.acknowledged_at is not None:
        return "people are working on it"
    return "noticed; the people on call are told"


def clock(at: Instant) -> str:
    """10:15 UTC, with the day: a night has two of each hour."""
    return (_EPOCH + timedelta(milliseconds=at)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _whole_minutes(millis: int) -> int:
    return millis // 60_000 * 60_000 if millis >= 60_000 else millis // 1000 * 1000
