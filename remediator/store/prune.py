"""Retention: finds what is old enough, and deletes it in small pieces that hold nobody up.

What is found stays findable: an ended run does not reopen, an event that no alert refers to any
more is not referred to again. So finding needs no lock, and only the deletion is a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from remediator.audit import seal
from remediator.errors import ConfigurationError
from remediator.model import HOUR, Millis
from remediator.store import pruned, sealing
from remediator.store.pruned import Pruned, beyond, merge
from remediator.store.tx import Row, Tx

_FIND: dict[str, str] = {
    "run": """
        SELECT id FROM run WHERE outcome IS NOT NULL AND updated_at < :before
          AND NOT EXISTS (SELECT 1 FROM target_lock WHERE target_lock.run = run.id)
          AND NOT EXISTS (SELECT 1 FROM effect WHERE effect.run = run.id AND effect.returned_at IS NULL)
          AND NOT EXISTS (SELECT 1 FROM intent WHERE intent.run = run.id AND intent.created_at > :intents)
        ORDER BY updated_at LIMIT :limit""",
    "alert": """
        SELECT id, sender, fingerprint FROM alert WHERE resolved_at < :before
          AND NOT EXISTS (SELECT 1 FROM run_alert WHERE run_alert.alert = alert.id)
        ORDER BY resolved_at LIMIT :limit""",
    "alert_event": """
        SELECT id FROM alert_event WHERE at < :before AND id <= :upto
          AND id NOT IN (SELECT event FROM alert) AND id NOT IN (SELECT last_event FROM alert)
        ORDER BY id LIMIT :limit""",
    "audit_event": """
        SELECT id FROM audit_event WHERE at < :before AND id <= :upto AND id <> :tombstone
        ORDER BY id LIMIT :limit""",
    "effect": "SELECT id FROM effect WHERE returned_at < :before ORDER BY id LIMIT :limit",
    "outbox": "SELECT id FROM outbox WHERE sent_at < :before ORDER BY id LIMIT :limit",
    "incident": "SELECT id FROM incident WHERE resolved_at < :before ORDER BY id LIMIT :limit",
    "approval": "SELECT id FROM approval WHERE expires_at < :before ORDER BY id LIMIT :limit",
    "rejected": "SELECT id FROM rejected WHERE at < :before ORDER BY id LIMIT :limit",
    "policy_revision": """
        SELECT hash FROM policy_revision WHERE loaded_at < :before
          AND hash NOT IN (SELECT value FROM meta WHERE key = 'active')
          AND hash NOT IN (SELECT policy_revision FROM run)
          AND hash NOT IN (SELECT revision FROM alert_event)
        LIMIT :limit""",
    "started": "SELECT alert FROM started WHERE ended_at < :before ORDER BY ended_at LIMIT :limit",
    "episode_count": "SELECT sender, at FROM episode_count WHERE at < :before LIMIT :limit",
    "control": "SELECT kind, scope FROM control WHERE until < :before LIMIT :limit",
}
_DELETE: dict[str, Sequence[str]] = {
    "run": (
        "DELETE FROM run_alert WHERE run = :id",
        "DELETE FROM intent WHERE run = :id",
        "DELETE FROM approval WHERE run = :id",
        "DELETE FROM run WHERE id = :id",
    ),
    "incident": ("DELETE FROM incident_run WHERE incident = :id", "DELETE FROM incident WHERE id = :id"),
    "started": ("DELETE FROM started WHERE alert = :id",),
    "policy_revision": ("DELETE FROM policy_revision WHERE hash = :id",),
    "episode_count": ("DELETE FROM episode_count WHERE sender = :id AND at = :second",),
    "control": ("DELETE FROM control WHERE kind = :id AND scope = :second AND until < :before",),
}
COUNTED = Millis(26 * HOUR)
"""How long new episodes are counted by the second: longer than a storm is looked back on."""
_SEALS = "SELECT id, first, count, upto, items, hash FROM audit_seal ORDER BY id LIMIT :limit"
_DELETE_SEAL = "DELETE FROM audit_seal WHERE id = :id"
_KEPT = {
    source: f"SELECT id FROM {source} WHERE id > :low AND id <= :high ORDER BY id"  # noqa: S608
    for source in sealing.SOURCES
}


@dataclass(frozen=True, slots=True)
class Old:
    """What may go, by table."""

    rows: Mapping[str, Sequence[Row]]
    before: Mapping[str, int]
    seals: Sequence[Row] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.seals) or any(self.rows.values())


def find(tx: Tx, keep: Mapping[str, Millis], keep_intents: Millis, limit: int) -> Old:
    """What is older than its retention, at most `limit` rows of each table.

    Raises:
        ConfigurationError: a table that has no retention.
    """
    unknown = sorted(set(keep) - set(_FIND))
    if unknown:
        raise ConfigurationError(
            f"retention: {', '.join(unknown)} cannot be pruned; there are {', '.join(sorted(_FIND))}"
        )
    keep = {**keep, "episode_count": COUNTED}
    upto, tombstone = sealing.upto(tx), pruned.last(tx).event
    before = {table: tx.now - keep[table] for table in _FIND if table in keep}
    rows = {}
    for table, limit_at in before.items():
        values = {
            "before": limit_at,
            "limit": limit,
            "upto": upto,
            "tombstone": -1 if tombstone is None else tombstone,
            "intents": tx.now - keep_intents,
        }
        sql = _FIND[table]
        rows[table] = tx.all(sql, {name: value for name, value in values.items() if f":{name}" in sql})
    return Old(rows=rows, before=before, seals=_empty_seals(tx, limit))


def delete(tx: Tx, old: Old) -> dict[str, int]:
    """Delete it, and say so in the audit log where that is what shrank; returns how many rows."""
    counts = {table: len(rows) for table, rows in old.rows.items() if rows}
    for table, rows in old.rows.items():
        for sql in _DELETE.get(table, (f"DELETE FROM {table} WHERE id = :id",)):  # noqa: S608
            for row in rows:
                values: dict[str, object] = {"id": row[0]}
                if table in ("control", "episode_count"):
                    values |= {"second": row[1]}
                if table == "control":
                    values |= {"before": old.before[table]}
                tx.run(sql, values)
    gone = pruned.last(tx)
    ranges = {source: _ranges(tx, gone, source, old) for source in sealing.SOURCES}
    if old.seals:
        counts["audit_seal"] = len(old.seals)
        for row in old.seals:
            tx.run(_DELETE_SEAL, {"id": row[0]})
        number, first, count, upto, _, hash = old.seals[-1]
        gone = Pruned(seal=number, first=first + count, upto=upto, hash=hash)
        ranges = {source: beyond(found, upto) for source, found in ranges.items()}
    if old.seals or any(old.rows.get(source) for source in sealing.SOURCES):
        pruned.record(tx, msgspec.structs.replace(gone, ranges=ranges), counts)
    return counts


def _ranges(tx: Tx, gone: Pruned, source: str, old: Old) -> pruned.Ranges:
    former = gone.ranges.get(source, ())
    deleted = [row[0] for row in old.rows.get(source, ())]
    if not deleted:
        return former
    edge = former[-1][1] if former else gone.upto
    kept = tx.all(_KEPT[source], {"low": edge, "high": deleted[-1]})
    return merge(former or ((-1, gone.upto),), deleted, (row[0] for row in kept))


def _empty_seals(tx: Tx, limit: int) -> Sequence[Row]:
    """The oldest seals of which every record is gone already. The last seal always stays."""
    gone = pruned.last(tx)
    found: list[Row] = []
    for row in tx.all(_SEALS, {"limit": min(limit, 200) + 1})[:-1]:
        items = seal.unpack(bytes(row[4]))
        if not all(gone.has(source, id) for source, id, _ in items):
            break
        found.append(row)
    return found
