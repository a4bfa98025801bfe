"""Controls: the brakes that are on. A brake whose `until` has passed is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remediator.model import AuditEvent, Control, ControlKind, Instant, Reason, RunId
from remediator.store import trail
from remediator.store.rows import CONTROL, control, encode
from remediator.store.tx import BRAKES, Tx, insert

_SET = (
    insert("control", CONTROL)
    + """
ON CONFLICT (kind, scope) DO UPDATE SET
  reason = excluded.reason, actor = excluded.actor, since = excluded.since,
  until = excluded.until, data = excluded.data
"""
)
_ON = f"SELECT {CONTROL} FROM control WHERE until IS NULL OR until > :now ORDER BY kind, scope"  # noqa: S608
_CLEAR = "DELETE FROM control WHERE kind = :kind AND scope = :scope RETURNING until"

_LOCKS = "SELECT target_key, run FROM target_lock ORDER BY target_key"

NOT_QUARANTINED = """
NOT EXISTS (
  SELECT 1 FROM control
  WHERE control.kind = 'quarantine' AND (control.until IS NULL OR control.until > :now)
    AND control.scope IN ('target:' || target_lock.target_key, 'target:' || target_lock.target)
)
"""
_FREE_ENDED = f"""
DELETE FROM target_lock
WHERE run NOT IN (SELECT id FROM run WHERE outcome IS NULL) AND {NOT_QUARANTINED}
"""  # noqa: S608

HOLDS = {
    ControlKind.PAUSE: Reason.PAUSED,
    ControlKind.QUARANTINE: Reason.QUARANTINED,
    ControlKind.BREAKER: Reason.BREAKER,
    ControlKind.STORM: Reason.STORM,
}
"""Kind of brake → the reason for which runs wait while it is on."""


def on(tx: Tx) -> Sequence[Control]:
    """The brakes that are on now."""
    return [control(row) for row in tx.all(_ON, {"now": tx.now})]


def locks(tx: Tx) -> Mapping[str, RunId]:
    """Target key → the run that holds it."""
    return {key: RunId(run) for key, run in tx.all(_LOCKS)}


def put(tx: Tx, brake: Control) -> None:
    """Set a brake, or replace the one of the same kind and scope."""
    tx.lock(BRAKES)
    tx.run(
        _SET,
        {
            "kind": brake.kind.value,
            "scope": brake.scope,
            "reason": brake.reason,
            "actor": brake.actor,
            "since": brake.since,
            "until": brake.until,
            "data": encode(brake.data),
        },
    )


def clear(tx: Tx, kind: ControlKind, scope: str, event: AuditEvent) -> bool:
    """Lift a brake; lifting a quarantine also frees the lock that an ended run left under it.

    Returns:
        Whether it was on. If not, nothing is recorded.
    """
    tx.lock(BRAKES)
    found = tx.change(_CLEAR, {"kind": kind.value, "scope": scope})
    until: Instant | None = found[0][0] if found else None
    was_on = bool(found) and (until is None or until > tx.now)
    if kind is ControlKind.QUARANTINE:
        tx.run(_FREE_ENDED, {"now": tx.now})
    if was_on:
        trail.append(tx, (event,))
    return was_on
