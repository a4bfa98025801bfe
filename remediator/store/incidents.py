"""Incidents: what a person is called for. One is open for a target at a time, by a unique index.

An incident is changed only by whoever read its latest state (`updated_at` rises with every change),
so that of several replicas one tells each thing once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.contracts import Declaration, IncidentChange
from remediator.errors import Conflict, NotFound
from remediator.model import (
    MINUTE,
    AlertId,
    AuditEvent,
    Incident,
    IncidentId,
    IncidentProgress,
    Instant,
    Run,
    RunId,
)
from remediator.store import outbox, rows, trail
from remediator.store.rows import INCIDENT, RUN, encode
from remediator.store.tx import Tx, Where, insert

_INSERT = (
    insert("incident", INCIDENT)
    + f"\nON CONFLICT (target_key) WHERE resolved_at IS NULL DO NOTHING RETURNING {INCIDENT}"
)
# An update that changes nothing reads the row as it is now and keeps others from it.
_HOLD_STILL = f"""
UPDATE incident SET updated_at = updated_at
WHERE resolved_at IS NULL AND (target_key IN (:target_key, :target) OR target = :target)
RETURNING {INCIDENT}
"""  # noqa: S608
_CHANGE = f"""
UPDATE incident SET
  severity = :severity, data = :data, next_at = :next_at, updated_at = :updated_at,
  acknowledged_at = :acknowledged_at, acknowledged_by = :acknowledged_by, resolved_at = :resolved_at
WHERE id = :id AND updated_at = :seen AND resolved_at IS NULL
RETURNING {INCIDENT}
"""  # noqa: S608
_ATTACH = insert("incident_run", "incident, run, attached_at") + "\nON CONFLICT (incident, run) DO NOTHING"
_HAD = "SELECT 1 FROM incident_run WHERE run = :run LIMIT 1"
_ONE = f"SELECT {INCIDENT} FROM incident WHERE id = :id"  # noqa: S608
_DUE = f"""
SELECT {INCIDENT} FROM incident
WHERE resolved_at IS NULL AND next_at <= :now ORDER BY next_at, id LIMIT :limit
"""  # noqa: S608
_NEXT = "SELECT MIN(next_at) FROM incident WHERE resolved_at IS NULL"
_RUNS = f"""
SELECT {RUN} FROM run WHERE id IN (SELECT run FROM incident_run WHERE incident = :id) ORDER BY id
"""  # noqa: S608
# What a person started stands for no alert that could resolve: that alone is over when a person says so.
_SETTLED = f"""
SELECT {INCIDENT} FROM incident
WHERE resolved_at IS NULL AND id > :after
  AND EXISTS (
    SELECT 1 FROM incident_run JOIN run ON run.id = incident_run.run
    WHERE incident_run.incident = incident.id AND run.origin <> 'hand')
  AND NOT EXISTS (
    SELECT 1 FROM incident_run JOIN run ON run.id = incident_run.run
    WHERE incident_run.incident = incident.id AND run.outcome IS NULL)
  AND NOT EXISTS (
    SELECT 1 FROM incident_run
    JOIN run ON run.id = incident_run.run
    JOIN run_alert ON run_alert.run = run.id
    JOIN alert ON alert.id = run_alert.alert
    WHERE incident_run.incident = incident.id AND run.origin <> 'hand' AND alert.status = 'firing')
  AND NOT EXISTS (
    SELECT 1 FROM control
    WHERE control.kind = 'quarantine' AND (control.until IS NULL OR control.until > :now)
      AND control.scope IN ('target:' || incident.target_key, 'target:' || incident.target))
ORDER BY id LIMIT :limit
"""  # noqa: S608
_PAIRS = """
SELECT incident.id AS incident, run.id AS run FROM incident JOIN run ON run.{name} = incident.{name}
WHERE incident.resolved_at IS NULL AND run.mode <> 'observe' AND run.outcome {ended}
"""
_ENDED = "IS NOT NULL AND run.updated_at >= :lately AND run.updated_at >= incident.opened_at"
_JOINING = f"""
SELECT pair.incident, {", ".join("run." + name.strip() for name in RUN.split(","))}
FROM (
  {
    " UNION ".join(
        _PAIRS.format(name=name, ended=ended)
        for name in ("target", "target_key")
        for ended in ("IS NULL", _ENDED)
    )
}
) AS pair JOIN run ON run.id = pair.run
WHERE NOT EXISTS (
  SELECT 1 FROM incident_run WHERE incident_run.incident = pair.incident AND incident_run.run = pair.run)
ORDER BY run.id LIMIT :limit
"""  # noqa: S608
_ANY_OPEN = "SELECT 1 FROM incident WHERE resolved_at IS NULL LIMIT 1"
_LATELY = MINUTE
"""A run that began and ended between two looks joins, if it ended no longer ago than this."""
_TRIES = 5


def declare(tx: Tx, run: Run, wanted: Declaration) -> None:
    """Open an incident for this run, or let it join the one of its target that is open.

    Raises:
        Conflict: others opened and resolved it again and again meanwhile.
    """
    if not wanted.calling and tx.one(_HAD, {"run": run.id}) is not None:
        return
    keys = {"target_key": wanted.target_key, "target": wanted.target}
    for _ in range(_TRIES):
        found = tx.change(_HOLD_STILL, keys)
        if found:
            _join(tx, rows.incident(found[0]), run, wanted)
            return
        opened = tx.change(_INSERT, _opening(tx, run, wanted))
        if opened:
            incident = rows.incident(opened[0])
            tx.run(_ATTACH, {"incident": incident.id, "run": run.id, "attached_at": tx.now})
            data = {"severity": incident.severity.value, "chain": wanted.chain}
            trail.append(tx, (event("incident.declared", incident, run=run, **data),))
            return
    raise Conflict(f"an incident of {wanted.target} comes and goes; try again")


def change(tx: Tx, seen: Incident, wanted: IncidentChange) -> Incident | None:
    """Apply a change; None if the incident is no longer as it was seen."""
    acknowledged = wanted.acknowledged_by is not None
    found = tx.change(
        _CHANGE,
        {
            "id": seen.id,
            "seen": seen.updated_at,
            "severity": (wanted.severity or seen.severity).value,
            "data": encode(wanted.progress),
            "next_at": wanted.next_at,
            "updated_at": _after(tx, seen),
            "acknowledged_at": tx.now if acknowledged else seen.acknowledged_at,
            "acknowledged_by": wanted.acknowledged_by if acknowledged else seen.acknowledged_by,
            "resolved_at": tx.now if wanted.resolved else None,
        },
    )
    if not found:
        return None
    tx.many(_ATTACH, [{"incident": seen.id, "run": run, "attached_at": tx.now} for run in wanted.runs])
    trail.append(tx, wanted.events)
    outbox.post(tx, wanted.messages)
    return rows.incident(found[0])


def one(tx: Tx, id: IncidentId) -> Incident:
    """An incident by its id.

    Raises:
        NotFound: there is none.
    """
    row = tx.one(_ONE, {"id": id})
    if row is None:
        raise NotFound(f"no incident has the id {id}")
    return rows.incident(row)


def find(
    tx: Tx,
    *,
    open: bool | None,
    run: RunId | None,
    alert: AlertId | None,
    before: IncidentId | None,
    limit: int,
) -> Sequence[Incident]:
    """Newest first."""
    where = Where()
    if open is not None:
        where.add("resolved_at IS NULL" if open else "resolved_at IS NOT NULL")
    if run is not None:
        where.add("id IN (SELECT incident FROM incident_run WHERE run = :run)", run=run)
    if alert is not None:
        where.add(
            "id IN (SELECT incident_run.incident FROM incident_run "
            "JOIN run_alert ON run_alert.run = incident_run.run WHERE run_alert.alert = :alert)",
            alert=alert,
        )
    if before is not None:
        where.add("id < :before", before=before)
    where.values["limit"] = limit
    sql = where.select(INCIDENT, "incident", "ORDER BY id DESC LIMIT :limit")
    return [rows.incident(row) for row in tx.all(sql, where.values)]


def runs(tx: Tx, id: IncidentId) -> Sequence[Run]:
    """The runs of an incident, oldest first."""
    return [rows.run(row) for row in tx.all(_RUNS, {"id": id})]


def due(tx: Tx, limit: int) -> Sequence[Incident]:
    """On which something is to be said by now."""
    return [rows.incident(row) for row in tx.all(_DUE, {"now": tx.now, "limit": limit})]


def settled(tx: Tx, after: IncidentId, limit: int) -> Sequence[Incident]:
    """Open, with nothing left that is open, by id."""
    values = {"now": tx.now, "after": after, "limit": limit}
    return [rows.incident(row) for row in tx.all(_SETTLED, values)]


def joining(tx: Tx, limit: int) -> Sequence[tuple[IncidentId, Run]]:
    """Runs that belong to an open incident and are not part of it yet."""
    if tx.one(_ANY_OPEN) is None:
        return []  # most of the time; and with many open runs the search below is not for nothing
    found = tx.all(_JOINING, {"lately": tx.now - _LATELY, "limit": limit})
    return [(IncidentId(row[0]), rows.run(row[1:])) for row in found]


def next_at(tx: Tx) -> Instant | None:
    """When something is to be said next."""
    row = tx.one(_NEXT)
    return None if row is None or row[0] is None else Instant(row[0])


def event(kind: str, incident: Incident, run: Run | None = None, **data: object) -> AuditEvent:
    """An audit event about an incident."""
    return AuditEvent(
        kind=kind,
        alert=run.alert if run is not None else None,
        run=run.id if run is not None else None,
        policy=run.policy if run is not None else None,
        target=incident.target,
        data={"incident": incident.id, **data},
    )


def _opening(tx: Tx, run: Run, wanted: Declaration) -> dict[str, object]:
    progress = IncidentProgress(
        chain=wanted.chain,
        policy=wanted.policy,
        news=(run.id,) if wanted.calling else (),
        by_person=wanted.by_person,
    )
    return {
        "id": tx.id("incident"),
        "target": wanted.target,
        "target_key": wanted.target_key,
        "severity": wanted.severity.value,
        "opened_at": tx.now,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "resolved_at": None,
        "updated_at": tx.now,
        "next_at": tx.now,
        "data": encode(progress),
    }


def _join(tx: Tx, incident: Incident, run: Run, wanted: Declaration) -> None:
    progress = incident.progress
    graver = wanted.severity.rank < incident.severity.rank
    if graver or not progress.chain:
        progress = msgspec.structs.replace(progress, chain=wanted.chain, policy=wanted.policy)
    news = progress.news
    if wanted.calling and run.id not in news:
        news = (*news, run.id)
    progress = msgspec.structs.replace(progress, news=news, by_person=progress.by_person or wanted.by_person)
    severity = wanted.severity if graver else incident.severity
    change(
        tx,
        incident,
        IncidentChange(
            progress=progress,
            next_at=tx.now,
            severity=severity,
            runs=(run.id,),
            events=(
                event(
                    "incident.updated",
                    incident,
                    run=run,
                    severity=severity.value,
                    was=incident.severity.value,
                ),
            ),
        ),
    )


def _after(tx: Tx, seen: Incident) -> Instant:
    """Later than what was seen, even if the clock stands or went back."""
    return Instant(max(tx.now, seen.updated_at + 1))
