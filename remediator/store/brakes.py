"""Controls: the brakes that are on. A brake whose `until` has passed is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from remediator.model import AuditEvent, Control, ControlKind, Instant, Reason, RunId, Target
from remediator.store import find, trail
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

_REMEMBER = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"

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


def now_on(tx: Tx) -> Sequence[Control]:
    """The same, read once in a transaction that holds the lock BRAKES."""
    return tx.known("brakes", lambda: on(tx))


def about(tx: Tx, target: Target) -> set[str]:
    """The scopes of brakes that are meant for this target: it may be paused under another of its names."""
    scopes = {f"target:{target.key}", f"target:{target.name}"}
    if any(brake.scope.startswith("target:") for brake in now_on(tx)):
        scopes |= {f"target:{name}" for name in find.names(tx, target.key)}
    return scopes


def stopping(tx: Tx, policy: str, target: Target) -> Control | None:
    """The pause or quarantine under which nothing may be called on this target for this policy."""
    scopes = about(tx, target)
    for brake in now_on(tx):
        if brake.kind is ControlKind.PAUSE and brake.scope in scopes | {"", f"policy:{policy}"}:
            return brake
        if brake.kind is ControlKind.QUARANTINE and brake.scope in scopes:
            return brake
    return None


def locks(tx: Tx) -> Mapping[str, RunId]:
    """Target key → the run that holds it."""
    return {key: RunId(run) for key, run in tx.all(_LOCKS)}


def put(tx: Tx, brake: Control) -> Control:
    """Set a brake, or replace the one of the same kind and scope; returns the one that stands.

    A pause takes nothing from one that lasts longer: that stays as it is. One that it replaces is kept in
    its data, under `before`.
    """
    tx.lock(BRAKES)
    tx.unknown("brakes")
    found = next((one for one in on(tx) if (one.kind, one.scope) == (brake.kind, brake.scope)), None)
    if brake.kind is ControlKind.PAUSE and found is not None:
        if outlasts(found, brake):
            return found
        before = {"reason": found.reason, "actor": found.actor, "since": found.since, "until": found.until}
        brake = msgspec.structs.replace(brake, data={**brake.data, "before": before})
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
    return brake


def trip(tx: Tx, brake: Control) -> bool:
    """Set a brake, or let the one that is on last longer; returns whether it was off."""
    tx.lock(BRAKES)
    found = next((one for one in on(tx) if (one.kind, one.scope) == (brake.kind, brake.scope)), None)
    if found is None:
        put(tx, brake)
    elif outlasts(brake, found):
        put(tx, msgspec.structs.replace(found, until=brake.until))
    return found is None


def restored_key(policy: str) -> str:
    """Where it stands in `meta` when a policy was last restored."""
    return f"restored:{policy}"


def outlasts(one: Control, other: Control) -> bool:
    """Whether it ends later."""
    return other.until is not None and (one.until is None or one.until > other.until)


def clear(tx: Tx, kind: ControlKind, scope: str, event: AuditEvent) -> bool:
    """Lift a brake; lifting a quarantine also frees the lock that an ended run left under it.

    Returns:
        Whether it was on. If not, nothing is recorded.
    """
    tx.lock(BRAKES)
    tx.unknown("brakes")
    found = tx.change(_CLEAR, {"kind": kind.value, "scope": scope})
    until: Instant | None = found[0][0] if found else None
    was_on = bool(found) and (until is None or until > tx.now)
    if kind is ControlKind.QUARANTINE:
        tx.run(_FREE_ENDED, {"now": tx.now})
    if was_on:
        if kind is ControlKind.BREAKER:  # what came before does not count against the policy any more
            key = restored_key(scope.removeprefix("policy:"))
            tx.run(_REMEMBER, {"key": key, "value": str(tx.now)})
        trail.append(tx, (event,))
    return was_on
