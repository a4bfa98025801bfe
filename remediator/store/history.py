"""Reads alerts back: the row says what and when, the stored body says the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from remediator.contracts import Receiver
from remediator.errors import NotFound, StoreError
from remediator.model import Alert, AlertId, AuditEvent, AuditRecord, Episode, Instant, RunId, Status
from remediator.store.intake import TEST, Change
from remediator.store.known import KnownAlerts
from remediator.store.tx import Row, Tx, Where

_EPISODE = (
    "alert.id, alert.sender, alert.fingerprint, alert.starts_at, alert.status, alert.received_at, "
    "alert.resolved_at, first.revision, latest.id, latest.kind"
)
_EVENTS = (
    "LEFT JOIN alert_event AS first ON first.id = alert.event "
    "JOIN alert_event AS latest ON latest.id = alert.last_event"
)
_FROM = f"alert {_EVENTS}"
_OF_RUN = "alert JOIN run_alert ON run_alert.alert = alert.id JOIN run ON run.id = run_alert.run"
_ORDER = "ORDER BY CASE WHEN alert.id = run.alert THEN 0 ELSE 1 END, run_alert.attached_at, alert.id"
_OF_RUNS = (
    f"SELECT {_EPISODE}, run_alert.run FROM {_OF_RUN} {_EVENTS} "  # noqa: S608
    f"WHERE run_alert.run IN (:runs) {_ORDER}"
)
_BODIES = "SELECT id, at, changes, body FROM alert_event WHERE id IN (:events)"
_AT_ONCE = 16
"""Bodies in memory at the same time, at most: each may be as large as a webhook's may."""
_LAST_EVENT = "SELECT last_event FROM alert WHERE id = :id"
_EVENT = "SELECT id, at, sender, kind, revision, truncated, changes FROM alert_event WHERE id = :id"
EVENTS = "id, at, sender, kind, revision, truncated, changes"
_RECENT = 512
"""Alerts kept as they were read last: a run that goes on looks at its alert several times."""
_decoder = msgspec.json.Decoder(list[tuple[int | None, int, str, int | None]])


class History:
    """Turns rows into episodes.

    Args:
        receivers: kind → the receiver that can read such bodies.
        known: what this process has seen; None where another process has the store.
    """

    def __init__(self, receivers: Mapping[str, Receiver], known: KnownAlerts | None) -> None:
        self._receivers = receivers
        self._known = known
        self._recent: dict[tuple[int, int], Alert] = {}  # by alert and event, which never changes

    def episode(self, tx: Tx, id: AlertId) -> Episode:
        """An alert by its id.

        Raises:
            NotFound: there is none.
        """
        where = Where()
        where.add("alert.id = :id", id=id)
        found = self._search(tx, where, _FROM, "")
        if not found:
            raise NotFound(f"no alert has the id {id}")
        return found[0]

    def of_run(self, tx: Tx, run: RunId) -> Sequence[Episode]:
        """The run's own episode, then those attached to it, in the order they came."""
        where = Where()
        where.add("run_alert.run = :run", run=run)
        return self._search(tx, where, f"{_OF_RUN} {_EVENTS}", _ORDER)

    def of_runs(self, tx: Tx, runs: Sequence[RunId]) -> Mapping[RunId, Sequence[Episode]]:
        """As `of_run`, of several."""
        rows = tx.any(_OF_RUNS, "runs", runs)
        found: dict[RunId, list[Episode]] = {run: [] for run in runs}
        for row, episode in zip(rows, self._told(tx, [row[:-1] for row in rows]), strict=True):
            found[row[-1]].append(episode)
        return found

    def find(self, tx: Tx, firing: bool | None, before: AlertId | None, limit: int) -> Sequence[Episode]:
        """Newest first."""
        where = Where()
        if firing is True:
            where.add("alert.resolved_at IS NULL")
        elif firing is False:
            where.add("alert.resolved_at IS NOT NULL")
        if before is not None:
            where.add("alert.id < :before", before=before)
        where.values["limit"] = limit
        return self._search(tx, where, _FROM, "ORDER BY alert.id DESC LIMIT :limit")

    def _search(self, tx: Tx, where: Where, source: str, rest: str) -> Sequence[Episode]:
        return self._told(tx, tx.all(where.select(_EPISODE, source, rest), where.values))

    def _told(self, tx: Tx, rows: Sequence[Row]) -> Sequence[Episode]:
        """The episodes of rows. A body is fetched and read once, however many of them it brought: a thousand
        alerts of one body may be about one target."""
        alerts: dict[tuple[int, int], Alert] = {}
        unread: dict[int, list[Row]] = {}
        for row in rows:
            recent = self._recent.get((row[0], row[8]))
            if recent is not None:
                alerts[row[0], row[8]] = recent
            else:
                unread.setdefault(row[8], []).append(row)
        events = sorted(unread)
        for place in range(0, len(events), _AT_ONCE):
            for event, at, changes, body in tx.any(_BODIES, "events", events[place : place + _AT_ONCE]):
                for id, alert in self._read(unread[event], Instant(at), changes, bytes(body)):
                    alerts[id, event] = alert
        if len(self._recent) + len(alerts) > _RECENT:
            self._recent.clear()
        self._recent.update(list(alerts.items())[-_RECENT:])
        return [self._episode(row, alerts[row[0], row[8]]) for row in rows]

    def _read(
        self, rows: Sequence[Row], at: Instant, changes: str, body: bytes
    ) -> Iterator[tuple[int, Alert]]:
        """What one body, which came at that time, says of these alerts."""
        places = {of: at for of, at, _, _ in parse(changes)}  # the last change of an alert is what holds
        all_: Sequence[tuple[Alert, int]] | None = None
        for row in rows:
            id, sender, kind = row[0], row[1], row[9]
            receiver = self._receivers.get(kind)
            if receiver is None:
                raise StoreError(
                    f"alert {id} came from a sender of kind {kind!r}, which this version cannot read; "
                    f"it reads {', '.join(sorted(self._receivers))}"
                )
            if len(rows) == 1:
                yield id, receiver.alert(sender, body, places[id], at)
                continue
            all_ = all_ or receiver.parse(sender, body, at).alerts
            yield id, all_[places[id]][0]

    def _episode(self, row: Row, told: Alert) -> Episode:
        id, sender, fingerprint, starts_at, status, received_at, resolved_at, revision = row[:8]
        alert = msgspec.structs.replace(
            told,
            sender=sender,
            fingerprint=fingerprint,
            starts_at=Instant(starts_at),
            status=Status(status),
        )
        seen_at = self._known.seen_at(sender, fingerprint, id) if self._known is not None else None
        return Episode(
            id=AlertId(id),
            alert=alert,
            received_at=Instant(received_at),
            resolved_at=resolved_at,
            seen_at=Instant(seen_at) if seen_at is not None else None,
            policy_revision=revision or "",
        )


def parse(changes: str) -> list[Change]:
    """The changes of one delivery."""
    return _decoder.decode(changes)


def records(row: Row) -> list[AuditRecord]:
    """A delivery's changes as audit records, in order. Args: row: of `EVENTS`."""
    id, at, sender, kind, revision, truncated, changes = row
    found: list[AuditRecord] = []
    for offset, (alert, position, change, _) in enumerate(parse(changes)):
        data: dict[str, object] = {"sender": sender, "kind": kind, "policy_revision": revision}
        if change != TEST:
            data |= {"event": id, "position": position}
        if truncated:
            data["truncated"] = truncated
        event = AuditEvent(
            kind=f"alert.{change}",
            actor=f"sender:{sender}",
            alert=None if alert is None else AlertId(alert),
            data=data,
        )
        found.append(AuditRecord(id=id + offset, at=Instant(at), event=event, source="alert_event"))
    return found


def of_alert(tx: Tx, alert: AlertId) -> Iterator[AuditRecord]:
    """One alert's changes, newest first, walked back from its last event. Where retention has
    deleted an event, the walk ends."""
    row = tx.one(_LAST_EVENT, {"id": alert})
    event = None if row is None else row[0]
    while event is not None:
        row = tx.one(_EVENT, {"id": event})
        if row is None:
            return
        yield from (one for one in reversed(records(row)) if one.event.alert == alert)
        event = next(former for of, _, _, former in parse(row[6]) if of == alert)
