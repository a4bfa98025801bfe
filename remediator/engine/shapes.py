"""How runs, audit events, alerts and the rest look as JSON, in the API and on the command line.

The names are an interface that others build on: add fields, never rename one.
Times are RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from typing_extensions import TypedDict

from remediator.model import (
    Approval,
    AuditRecord,
    Control,
    ControlKind,
    Effect,
    Episode,
    Instant,
    Intent,
    Plan,
    Run,
    RunId,
    moment,
)


class RunShape(TypedDict):
    """One policy revision applied to one alert."""

    id: int
    policy: str
    policy_revision: str
    alert: int
    target: str | None
    target_key: str | None
    mode: str
    origin: str
    state: str
    outcome: str | None
    reason: str | None
    observed: str
    allowed: str
    created_at: str
    updated_at: str
    next_at: str | None


class EventShape(TypedDict):
    """One line of the audit log."""

    id: str
    at: str
    kind: str
    actor: str
    alert: int | None
    run: int | None
    policy: str | None
    target: str | None
    reason: str | None
    observed: str | None
    allowed: str | None
    data: dict[str, Any]


class AlertShape(TypedDict):
    """One episode of one problem."""

    id: int
    sender: str
    fingerprint: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: float | None
    url: str
    starts_at: str
    ends_at: str | None
    received_at: str
    resolved_at: str | None
    seen_at: str | None
    policy_revision: str


class PlanShape(TypedDict):
    """What an action does, from and to."""

    action: str
    target: str
    target_key: str
    before: dict[str, Any]
    after: dict[str, Any]
    blast: dict[str, Any]
    note: str


class IntentShape(TypedDict):
    """The durable permission to call the outside world once, and what came of it."""

    run: int
    number: int
    kind: str
    rung: int
    step: int
    plan: PlanShape
    outcome: str
    created_at: str
    outcome_at: str | None
    evidence: dict[str, Any]


class ApprovalShape(TypedDict):
    """One plan that a run may carry out only if a person says so, and what was said."""

    id: int
    run: int
    plan: PlanShape
    steps: int
    role: str
    level: int | None
    asked_at: str
    expires_at: str
    decision: str | None
    actor: str | None
    comment: str | None
    decided_at: str | None
    started_by: str | None
    worst_case: str
    again: str
    evidence: dict[str, Any]


class EffectShape(TypedDict):
    """A lease: the prior value of one field of one target, and when it goes back."""

    id: int
    run: int
    policy: str
    target: str
    target_key: str
    field: str
    prior: Any
    current: Any
    lent_at: str | None
    expires_at: str
    extended: bool
    renewals: int
    renewed_at: str | None
    renewed_by: str
    recalled_by: str
    return_run: int | None
    returned_at: str | None
    outcome: str


class ControlShape(TypedDict):
    """A brake that is on."""

    kind: str
    scope: str
    reason: str
    actor: str
    since: str
    until: str | None
    data: dict[str, Any]


class TargetShape(TypedDict):
    """A target that is locked by a run, or held back by a brake."""

    key: str
    run: int | None
    quarantine: ControlShape | None
    pause: ControlShape | None


def time(at: Instant) -> str:
    """2026-01-15T10:11:12.345Z"""
    return moment(at)


def _time(at: Instant | None) -> str | None:
    return None if at is None else time(at)


def run(run: Run) -> RunShape:
    return {
        "id": run.id,
        "policy": run.policy,
        "policy_revision": run.policy_revision,
        "alert": run.alert,
        "target": run.target,
        "target_key": run.target_key,
        "mode": run.mode.value,
        "origin": run.origin.value,
        "state": run.state.value,
        "outcome": run.outcome.value if run.outcome else None,
        "reason": run.reason.value if run.reason else None,
        "observed": run.observed,
        "allowed": run.allowed,
        "created_at": time(run.created_at),
        "updated_at": time(run.updated_at),
        "next_at": _time(run.next_at),
    }


def event(record: AuditRecord) -> EventShape:
    """`id` is `source:id`, as `audit verify` names records: deliveries are numbered on their own."""
    said = record.event
    return {
        "id": f"{record.source}:{record.id}",
        "at": time(record.at),
        "kind": said.kind,
        "actor": said.actor,
        "alert": said.alert,
        "run": said.run,
        "policy": said.policy,
        "target": said.target,
        "reason": said.reason,
        "observed": said.observed,
        "allowed": said.allowed,
        "data": msgspec.to_builtins(said.data),
    }


def alert(episode: Episode) -> AlertShape:
    said = episode.alert
    return {
        "id": episode.id,
        "sender": said.sender,
        "fingerprint": said.fingerprint,
        "status": said.status.value,
        "labels": said.labels,
        "annotations": said.annotations,
        "value": said.value,
        "url": said.url,
        "starts_at": time(said.starts_at),
        "ends_at": _time(said.ends_at),
        "received_at": time(episode.received_at),
        "resolved_at": _time(episode.resolved_at),
        "seen_at": _time(episode.seen_at),
        "policy_revision": episode.policy_revision,
    }


def plan(plan: Plan) -> PlanShape:
    """Only the declared fields: parameters and detail stay inside."""
    return {
        "action": plan.action,
        "target": plan.target.name,
        "target_key": plan.target.key,
        "before": plan.before,
        "after": plan.after,
        "blast": {"amount": plan.blast.amount, "whole": plan.blast.whole, "unit": plan.blast.unit},
        "note": plan.note,
    }


def intent(intent: Intent) -> IntentShape:
    """Without its token and nonce, which are the daemon's own."""
    return {
        "run": intent.run,
        "number": intent.number,
        "kind": intent.kind.value,
        "rung": intent.rung,
        "step": intent.step,
        "plan": plan(intent.plan),
        "outcome": intent.outcome.value,
        "created_at": time(intent.created_at),
        "outcome_at": _time(intent.outcome_at),
        "evidence": intent.evidence,
    }


def approval(asked: Approval) -> ApprovalShape:
    data = asked.data
    return {
        "id": asked.id,
        "run": asked.run,
        "plan": plan(asked.plan),
        "steps": asked.steps,
        "role": asked.role,
        "level": data.get("level"),
        "asked_at": time(asked.asked_at),
        "expires_at": time(asked.expires_at),
        "decision": asked.decision.value if asked.decision else None,
        "actor": asked.actor or None,
        "comment": asked.comment or None,
        "decided_at": _time(asked.decided_at),
        "started_by": asked.started_by or None,
        "worst_case": data.get("worst_case", ""),
        "again": data.get("again", ""),
        "evidence": data.get("evidence", {}),
    }


def effect(effect: Effect) -> EffectShape:
    return {
        "id": effect.id,
        "run": effect.run,
        "policy": effect.policy,
        "target": effect.target.name,
        "target_key": effect.target.key,
        "field": effect.field,
        "prior": effect.prior,
        "current": effect.current,
        "lent_at": _time(effect.lent_at),
        "expires_at": time(effect.expires_at),
        "extended": effect.extended,
        "renewals": effect.renewals,
        "renewed_at": _time(effect.renewed_at),
        "renewed_by": effect.renewed_by,
        "recalled_by": effect.recalled_by,
        "return_run": effect.return_run,
        "returned_at": _time(effect.returned_at),
        "outcome": effect.outcome,
    }


def control(control: Control) -> ControlShape:
    return {
        "kind": control.kind.value,
        "scope": control.scope,
        "reason": control.reason,
        "actor": control.actor,
        "since": time(control.since),
        "until": _time(control.until),
        "data": control.data,
    }


def targets(locks: Mapping[str, RunId], controls: Iterable[Control]) -> list[TargetShape]:
    """Every target that a run holds or a brake holds back, by key."""
    found: dict[str, TargetShape] = {}

    def at(key: str) -> TargetShape:
        return found.setdefault(key, {"key": key, "run": None, "quarantine": None, "pause": None})

    for key, holder in locks.items():
        at(key)["run"] = holder
    for brake in controls:
        if not brake.scope.startswith("target:"):
            continue
        target = at(brake.scope.removeprefix("target:"))
        if brake.kind is ControlKind.QUARANTINE:
            target["quarantine"] = control(brake)
        elif brake.kind is ControlKind.PAUSE:
            target["pause"] = control(brake)
    return [found[key] for key in sorted(found)]
