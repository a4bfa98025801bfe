"""What happened, line by line in words: one line for each audit event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.engine.shapes import time
from remediator.model import AuditEvent, AuditRecord, Struct, flat

_WORDS = {
    "alert.accepted": "the alert arrived",
    "alert.repeated": "the alert was delivered again",
    "alert.updated": "the alert came again, changed",
    "alert.resolved": "news that it resolved came",
    "alert.closed": "news that it closed came: the data stopped, which is not recovery",
    "alert.superseded": "its sender says that it began anew since; news of its end never came",
    "alert.attached": "the alert joined a run that was already open",
    "run.created": "run opened",
    "run.started": "run started by hand",
    "run.attached": "the alert joined this run",
    "run.waiting": "waits",
    "run.refused": "refused",
    "run.cancelled": "cancelled",
    "run.admitted": "admitted to act",
    "run.succeeded": "succeeded",
    "run.observed": "observed only",
    "run.nothing_to_do": "ended with nothing to do",
    "run.reverted": "ended reverted",
    "run.escalated": "handed to a person",
    "approval.asked": "people asked",
    "approval.approved": "approved",
    "approval.rejected": "rejected",
    "approval.expired": "nobody decided in time",
    "approval.withdrawn": "the question was withdrawn",
    "evidence.gathered": "evidence gathered",
    "action.applied": "applied",
    "action.failed": "the action failed",
    "action.unknown": "the action's outcome is not known",
    "action.reconciled": "looked at what became of the action",
    "action.settled": "the provider has finished",
    "action.late": "a late answer came, kept as evidence only",
    "action.nothing_to_do": "the action had nothing to do",
    "action.reverted": "put back",
    "action.revert_skipped": "left as it is, not put back",
    "action.bounded": "stopped at a bound, half-way",
    "remedy.skipped": "remedy not taken",
    "verify.healed": "verified: healed",
    "verify.failed": "verified: not healed",
    "verify.unknown": "could not be verified",
    "target.quarantined": "target quarantined until a person clears it",
    "target.cleared": "target cleared",
    "incident.declared": "incident declared",
    "incident.updated": "joined an incident",
    "incident.escalated": "the chain's next step called",
    "incident.overdue": "nobody acknowledged the incident in time",
    "incident.acknowledged": "incident acknowledged",
    "incident.resolved": "incident resolved",
    "notifier.failing": "a notifier delivers nothing",
    "notifier.recovered": "a notifier delivers again",
    "message.sent": "people told",
    "message.abandoned": "people could not be told",
}
_JUDGED = frozenset({"verify.healed", "verify.failed", "verify.unknown", "run.succeeded"})

KINDS = frozenset(_WORDS) | {
    "alert.rejected", "alert.test", "audit.pruned", "breaker.tripped", "control.paused", "control.resumed",
    "effect.recalled", "effect.renewed", "policy.loaded", "policy.rejected", "policy.restored",
    "sender.flooded", "storm.tripped", "store.copied", "store.reopened", "window.announced",
}  # fmt: skip
"""Every kind of event that the audit log has; an alert's story is made of those that have words."""


class Line(Struct, frozen=True, kw_only=True):
    """One line: when (RFC 3339), what, and who did it."""

    at: str
    kind: str
    text: str
    actor: str
    run: int | None


def line(record: AuditRecord) -> Line:
    """An audit record as one line."""
    said = record.event
    return Line(at=time(record.at), kind=said.kind, text=words(said), actor=said.actor, run=said.run)


def words(said: AuditEvent) -> str:
    """`waits: cooldown: 3m since the last action, allowed 10m`"""
    start = _WORDS.get(said.kind, said.kind.replace(".", " ").replace("_", " "))
    if said.kind == "run.created" and said.policy:
        start = f"policy {said.policy} opened run {said.run}"
    parts = [start, *_details(said.kind, said.data)]
    kind, _, name = said.actor.partition(":")
    if kind == "sender":
        parts[0] += f" from {name}"
    elif kind not in ("daemon", ""):
        parts[0] += f" by {said.actor}"
    # The kind says it already: `verified: healed`, not `verified: healed: healed`.
    reason = None if said.kind.startswith("verify.") else said.reason
    wanted = "wanted" if said.kind in _JUDGED else "allowed"
    return ": ".join(parts) + because(reason, said.observed, said.allowed, wanted)


def because(reason: str | None, observed: str | None, allowed: str | None, wanted: str = "allowed") -> str:
    """`: budget: 4 in 1h, allowed 4 per 1h`, without what is not known.

    Args:
        wanted: the word before `allowed`; what verify looks for is wanted and not allowed.
    """
    text = "".join(f": {part}" for part in (reason and str(reason), observed) if part)
    if allowed:
        text += f"{', ' if text else ': '}{wanted} {allowed}"
    return text


def said_of(kind: str, data: Mapping[str, Any]) -> str:
    """What the data of an event about an incident, or of a message about one, say."""
    if kind == "incident.escalated":
        return str(data.get("step", ""))
    if kind.startswith("message."):
        return f"{', '.join(map(str, data.get('notifiers', ())))}: {data.get('subject', '')}"
    if kind.startswith("incident.") and data.get("severity"):
        was = data.get("was")
        raised = f", was {was}" if was and was != data["severity"] else ""
        return f"incident {data.get('incident')}, {data['severity']}{raised}"
    return str(data.get("comment") or data.get("reason") or "")


def _details(kind: str, data: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    before, after = data.get("before"), data.get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        found.append(f"{data.get('action', 'action')} {flat(before)} → {flat(after)}")
    elif kind == "action.nothing_to_do" and "action" in data:
        found.append(str(data["action"]))
    if isinstance(data.get("plan"), dict) and isinstance(data["plan"].get("after"), dict):
        plan = data["plan"]
        found.append(f"{plan.get('action', 'plan')} {flat(plan.get('before', {}))} → {flat(plan['after'])}")
    if kind == "message.sent" or kind == "message.abandoned":
        found.append(", ".join(map(str, data.get("notifiers", ()))) or "nobody")
    if kind.startswith("incident."):
        found += [said] if (said := said_of(kind, data)) else []
    for key in ("note", "reason"):
        if isinstance(data.get(key), str) and data[key]:
            found.append(data[key])
    return found
