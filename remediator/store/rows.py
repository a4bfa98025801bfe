"""Rows to values and back. Column lists stand here once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from remediator.model import (
    AlertId,
    Control,
    ControlKind,
    Effect,
    Incident,
    IncidentProgress,
    Instant,
    Intent,
    IntentKind,
    IntentOutcome,
    Mode,
    Origin,
    Outcome,
    Plan,
    Progress,
    Reason,
    Run,
    RunId,
    Severity,
    State,
    Target,
)
from remediator.store.tx import Row

RUN = (
    "id, policy, policy_revision, alert, target, target_key, mode, origin, state, outcome, reason, "
    "observed, allowed, created_at, updated_at, next_at, epoch, progress"
)
INTENT = (
    "run, number, kind, policy, plan, token, nonce, rung, step, created_at, counted, outcome, "
    "outcome_at, evidence"
)
EFFECT = (
    "id, run, policy, target, target_key, field, prior, current, plan, expires_at, extended, "
    "returned_at, outcome, lent_at, return_run, renewed_at, renewed_by, renewals, recalled_by"
)
INCIDENT = (
    "id, target, target_key, severity, opened_at, acknowledged_at, acknowledged_by, resolved_at, "
    "updated_at, next_at, data"
)
CONTROL = "kind, scope, reason, actor, since, until, data"

_encoder = msgspec.json.Encoder(enc_hook=str)
_progress = msgspec.json.Decoder(Progress)
_incident = msgspec.json.Decoder(IncidentProgress)
_plan = msgspec.json.Decoder(Plan)


def encode(value: object) -> str:
    """JSON text. What JSON does not know is written as people would read it: losing a whole
    outcome because its evidence holds an odd object would be worse."""
    return _encoder.encode(value).decode()


def encode_bytes(value: object) -> bytes:
    """JSON bytes, as `encode`."""
    return _encoder.encode(value)


def decode(text: str | bytes) -> Any:
    """JSON text to plain values."""
    return msgspec.json.decode(text)


def progress(text: str) -> Progress:
    """What the column `progress` of a run says."""
    return _progress.decode(text)


def run(row: Row) -> Run:
    return Run(
        id=row[0],
        policy=row[1],
        policy_revision=row[2],
        alert=row[3],
        target=row[4],
        target_key=row[5],
        mode=Mode(row[6]),
        origin=Origin(row[7]),
        state=State(row[8]),
        outcome=None if row[9] is None else Outcome(row[9]),
        reason=None if row[10] is None else Reason(row[10]),
        observed=row[11],
        allowed=row[12],
        created_at=row[13],
        updated_at=row[14],
        next_at=row[15],
        epoch=row[16],
        progress=progress(row[17]),
    )


def intent(row: Row) -> Intent:
    return Intent(
        run=RunId(row[0]),
        number=row[1],
        kind=IntentKind(row[2]),
        policy=row[3],
        plan=_plan.decode(row[4]),
        token=row[5],
        nonce=row[6],
        rung=row[7],
        step=row[8],
        created_at=Instant(row[9]),
        counted=bool(row[10]),
        outcome=IntentOutcome(row[11]),
        outcome_at=row[12],
        evidence=decode(row[13]),
    )


def effect(row: Row) -> Effect:
    return Effect(
        id=row[0],
        run=RunId(row[1]),
        policy=row[2],
        target=Target(name=row[3], key=row[4]),
        field=row[5],
        prior=decode(row[6]),
        current=decode(row[7]),
        plan=_plan.decode(row[8]),
        expires_at=Instant(row[9]),
        extended=bool(row[10]),
        returned_at=row[11],
        outcome=row[12],
        lent_at=row[13],
        return_run=RunId(row[14]) if row[14] is not None else None,
        renewed_at=row[15],
        renewed_by=row[16],
        renewals=row[17],
        recalled_by=row[18],
    )


def incident(row: Row) -> Incident:
    return Incident(
        id=row[0],
        target=row[1],
        target_key=row[2],
        severity=Severity(row[3]),
        opened_at=row[4],
        acknowledged_at=row[5],
        acknowledged_by=row[6],
        resolved_at=row[7],
        updated_at=row[8],
        next_at=row[9],
        progress=_incident.decode(row[10]),
    )


def control(row: Row) -> Control:
    return Control(
        kind=ControlKind(row[0]),
        scope=row[1],
        reason=row[2],
        actor=row[3],
        since=Instant(row[4]),
        until=row[5],
        data=decode(row[6]),
    )


def new_run(
    *,
    id: int,
    policy: str,
    policy_revision: str,
    alert: AlertId,
    target: Target | str | None,
    mode: Mode,
    origin: Origin,
    state: State,
    now: Instant,
    next_at: Instant | None,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
    observed: str = "",
    allowed: str = "",
    progress: Progress | None = None,
) -> Mapping[str, object]:
    """The parameters of `insert("run", RUN)`."""
    return {
        "id": id,
        "policy": policy,
        "policy_revision": policy_revision,
        "alert": alert,
        "target": target.name if isinstance(target, Target) else target,
        "target_key": target.key if isinstance(target, Target) else None,
        "mode": mode.value,
        "origin": origin.value,
        "state": state.value,
        "outcome": outcome.value if outcome is not None else None,
        "reason": reason.value if reason is not None else None,
        "observed": observed,
        "allowed": allowed,
        "created_at": now,
        "updated_at": now,
        "next_at": next_at,
        "epoch": 0,
        "progress": encode(progress if progress is not None else _START),
    }


_START = Progress(waiting_since=None)
