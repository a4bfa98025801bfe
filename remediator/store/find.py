"""Searches: runs, the audit log, and the store's health. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from remediator.contracts import Health
from remediator.model import AlertId, AuditRecord, Instant, Run, RunId
from remediator.store import history, rows, sealing, trail
from remediator.store.tx import Row, Tx, Where

_PAGE = 500
_OPEN_RUNS = "SELECT COUNT(*) FROM run WHERE outcome IS NULL"
_OLDEST_DUE = """
SELECT MIN(next_at) FROM run
WHERE outcome IS NULL AND next_at <= :now AND (lease_until IS NULL OR lease_until <= :now)
"""
_OUTBOX = "SELECT MIN(at) FROM outbox WHERE sent_at IS NULL"
_UNSEALED = """
SELECT MIN(at) FROM (
  SELECT MIN(at) AS at FROM audit_event WHERE id > :upto
  UNION ALL SELECT MIN(at) AS at FROM alert_event WHERE id > :upto
) AS oldest
"""
_SHADOW = "SELECT COUNT(*) FROM run WHERE policy = :policy AND outcome = 'observed' AND updated_at > :since"
_NAMES = """
SELECT DISTINCT target FROM intent WHERE target_key = :target_key AND target <> '' ORDER BY target LIMIT 100
"""
_TARGETS = """
SELECT target FROM run WHERE target IS NOT NULL UNION SELECT target_key FROM run WHERE target_key IS NOT NULL
UNION SELECT target FROM intent UNION SELECT target_key FROM intent
UNION SELECT SUBSTR(scope, 8) FROM control WHERE kind <> 'pause' AND scope LIKE 'target:%'
"""

# The cursor may stand between two changes of one delivery.
_FROM_CURSOR = "id >= COALESCE((SELECT MAX(id) FROM alert_event WHERE id <= :before), 0)"


def targets(tx: Tx) -> Collection[str]:
    """The names and keys of the targets that runs have met or brakes, other than a person's, are about."""
    return {row[0] for row in tx.all(_TARGETS)}


def runs(
    tx: Tx,
    *,
    open: bool | None,
    policy: str | None,
    alert: AlertId | None,
    before: RunId | None,
    limit: int,
) -> Sequence[Run]:
    """Newest first."""
    where = Where()
    if open is not None:
        where.add("outcome IS NULL" if open else "outcome IS NOT NULL")
    where.equal("policy", policy)
    if alert is not None:
        where.add("id IN (SELECT run FROM run_alert WHERE alert = :alert)", alert=alert)
    if before is not None:
        where.add("id < :before", before=before)
    where.values["limit"] = limit
    sql = where.select(rows.RUN, "run", "ORDER BY id DESC LIMIT :limit")
    return [rows.run(row) for row in tx.all(sql, where.values)]


def shadow_count(tx: Tx, policy: str, since: Instant) -> int:
    """How many runs of the policy ended `observed` since then."""
    return _number(tx.one(_SHADOW, {"policy": policy, "since": since}))


def names(tx: Tx, target_key: str) -> Sequence[str]:
    """The names under which plans have known a target, as far back as intents are kept."""
    return [name for (name,) in tx.all(_NAMES, {"target_key": target_key})]


def health(tx: Tx) -> Health:
    """Numbers for /metrics and /readyz."""
    return Health(
        open_runs=_number(tx.one(_OPEN_RUNS)),
        oldest_due_at=_instant(tx.one(_OLDEST_DUE, {"now": tx.now})),
        outbox_oldest_at=_instant(tx.one(_OUTBOX)),
        unsealed_oldest_at=_instant(tx.one(_UNSEALED, {"upto": sealing.upto(tx)})),
    )


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked of the audit log.

    before: the id of the last record of the former page; the next page begins behind it in the
    order that is asked for. Ids are unique over both tables and rise in the order of writing, so
    one number is a cursor.
    """

    alert: AlertId | None
    run: RunId | None
    policy: str | None
    target: str | None
    kind: str | None
    since: Instant | None
    until: Instant | None
    before: int | None
    limit: int
    oldest_first: bool


def audit(tx: Tx, search: Search) -> Sequence[AuditRecord]:
    """Events and deliveries in one order."""
    found = _events(tx, search)
    if search.run is None and search.policy is None and search.target is None:
        found = [*found, *_deliveries(tx, search)]
    found.sort(key=lambda record: record.id, reverse=not search.oldest_first)
    return found[: search.limit]


def _events(tx: Tx, search: Search) -> list[AuditRecord]:
    where = Where()
    where.equal("alert", search.alert)
    where.equal("run", search.run)
    where.equal("policy", search.policy)
    where.equal("target", search.target)
    where.equal("kind", search.kind)
    _bound(where, search)
    if search.before is not None and search.oldest_first:
        where.add("id > :before", before=search.before)
    where.values["limit"] = search.limit
    sql = where.select("body", "audit_event", f"ORDER BY id {_order(search)} LIMIT :limit")
    return [trail.record(row[0]) for row in tx.all(sql, where.values)]


def _deliveries(tx: Tx, search: Search) -> list[AuditRecord]:
    if search.kind is not None and not search.kind.startswith("alert."):
        return []
    if search.alert is not None:
        wanted = [record for record in history.of_alert(tx, search.alert) if _fits(search, record)]
        if search.oldest_first:
            wanted.reverse()
        return wanted[: search.limit]
    return list(islice(_all_deliveries(tx, search), search.limit))


def _all_deliveries(tx: Tx, search: Search) -> Iterator[AuditRecord]:
    cursor: int | None = None
    while True:
        where = Where()
        _bound(where, search)
        if search.before is not None and search.oldest_first:
            where.add(_FROM_CURSOR, before=search.before)
        if cursor is not None:
            where.add("id > :cursor" if search.oldest_first else "id < :cursor", cursor=cursor)
        where.values["limit"] = _PAGE
        sql = where.select(history.EVENTS, "alert_event", f"ORDER BY id {_order(search)} LIMIT :limit")
        page = tx.all(sql, where.values)
        for row in page:
            changes = history.records(row)
            yield from (
                record
                for record in (changes if search.oldest_first else reversed(changes))
                if _fits(search, record)
            )
        if not page:
            return
        cursor = page[-1][0]


def _bound(where: Where, search: Search) -> None:
    if search.since is not None:
        where.add("at >= :since", since=search.since)
    if search.until is not None:
        where.add("at < :until", until=search.until)
    if search.before is not None and not search.oldest_first:
        where.add("id < :before", before=search.before)


def _fits(search: Search, record: AuditRecord) -> bool:
    return (
        (search.kind is None or record.event.kind == search.kind)
        and (search.since is None or record.at >= search.since)
        and (search.until is None or record.at < search.until)
        and (search.before is None or _past(search, record.id))
    )


def _past(search: Search, id: int) -> bool:
    before = search.before
    return before is None or (id > before if search.oldest_first else id < before)


def _order(search: Search) -> str:
    return "ASC" if search.oldest_first else "DESC"


def _number(row: Row | None) -> int:
    return 0 if row is None or row[0] is None else int(row[0])


def _instant(row: Row | None) -> Instant | None:
    return None if row is None or row[0] is None else Instant(row[0])
