"""Takes deliveries: decides in memory what each alert is, and writes many deliveries at once.

For each transaction: `take` every delivery, `flush` what they add up to, then `commit` or
`rollback` beside the database's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import msgspec

from remediator.contracts import Delivery, Match, Receipt
from remediator.model import MANUAL, Alert, AlertId, AuditEvent, Instant, RunId, Status
from remediator.store import claims, started, surges, trail
from remediator.store.known import Known, KnownAlerts
from remediator.store.limits import Limits
from remediator.store.opening import Wanted, open_runs
from remediator.store.rejected import Rejected
from remediator.store.tx import Row, Tx

ALERT = (
    "id, sender, fingerprint, starts_at, sent_starts_at, status, digest, received_at, resolved_at, "
    "event, last_event"
)
EVENT = "id, at, sender, kind, revision, truncated, test, changes, body"
UPDATE = """
UPDATE alert SET status = ?, sent_starts_at = ?, digest = ?, resolved_at = ?, last_event = ? WHERE id = ?
"""
_EXISTS = """
SELECT 1 FROM alert WHERE starts_at = :starts_at AND fingerprint = :fingerprint AND sender = :sender
"""
# Since when what is known of these alerts is over: their arrival, and the ends of the runs about them. One
# that a run is still about is not over; a run that puts a lease back does nothing about the alert.
_OVER = """
SELECT alert.id, alert.received_at, MAX(run.updated_at)
FROM alert LEFT JOIN run_alert ON run_alert.alert = alert.id
  LEFT JOIN run ON run.id = run_alert.run AND run.origin <> 'lease'
WHERE alert.id IN (:alerts)
GROUP BY alert.id, alert.received_at
HAVING COUNT(run.id) = COUNT(run.outcome)
"""
ACCEPTED, UPDATED, RESOLVED, CLOSED, TEST = "accepted", "updated", "resolved", "closed", "test"
SUPERSEDED = "superseded"
_FIRING = Status.FIRING
_ENDS = {Status.RESOLVED: RESOLVED, Status.CLOSED: CLOSED}
_TEXT = {status: status.value for status in Status}
_SIGNED = (1 << 63) - 1
_changes = msgspec.json.Encoder()

Change = tuple[int | None, int, str, int | None]
"""(alert, position in the body, what changed, the event that changed the alert before)"""


class Intake:
    """One store's intake, owned by its writer.

    `repeated` alone may be called from another thread: it only reads, and only what is committed.
    """

    def __init__(self, limits: Limits, rejected: Rejected) -> None:
        self.known = KnownAlerts()
        self._limits = limits
        self._rejected = rejected
        self._durable_event = -1
        self._last_event = -1
        self.alerts: list[Row] = []
        self.updates: list[Row] = []
        self.events: list[Row] = []
        self._ended: list[int] = []
        self._joined: set[RunId] = set()
        self.counts: dict[tuple[str, Instant], int] = {}

    def opened(self, last_event: int) -> None:
        """Every event up to this one is committed."""
        self._last_event = self._durable_event = last_event

    # ------------------------------------------------------------ repeats

    def repeated(self, delivery: Delivery) -> Receipt | None:
        """The receipt of a delivery that changes nothing and says only what is committed; None if
        it must be taken. A repeated delivery costs no transaction and no change of thread."""
        parsed = delivery.parsed
        if parsed.bad or parsed.test or delivery.key is not None:
            return None
        own = self.known.by_sender.get(delivery.sender)
        if own is None:
            return None
        durable = self._durable_event
        found: list[Known] = []
        for alert, digest in parsed.alerts:
            known = own.get(alert.fingerprint)
            if (
                known is None
                or known.sent != alert.starts_at
                or known.digest != digest & _SIGNED
                or known.status is not alert.status
                or known.event > durable
            ):
                return None
            found.append(known)
        for known in found:
            known.seen_at = delivery.received_at
        return Receipt(repeated=len(found))

    # ------------------------------------------------------------ taking

    def take(self, tx: Tx, delivery: Delivery, match: Match) -> Receipt:
        """Decide what a delivery changes. Nothing is kept if this raises and the caller undoes it."""
        parsed, received = delivery.parsed, delivery.received_at
        if delivery.key is not None and (before := started.of(tx, delivery.key)) is not None:
            return Receipt(repeated=1, alerts=(before,))
        own = self.known.of(delivery.sender)
        changes: list[Change] = []
        accepted: list[AlertId] = []
        openings: list[Wanted] = []
        runs: Sequence[RunId] = ()
        refused: Sequence[str] = ()
        due: Instant | None = None
        repeated = resolved = updated = 0
        over: Mapping[int, int] | None = None
        superseded: list[Known] = []
        ends: list[Change] = []
        # n changes own n ids; the event's is the first of them.
        event = tx.id("audit", max(1, len(parsed.alerts)))
        sender, known_alerts = delivery.sender, self.known
        for position, (alert, whole) in enumerate(parsed.alerts if not parsed.test else ()):
            fingerprint, status, sent = alert.fingerprint, alert.status, alert.starts_at
            digest = whole & _SIGNED
            firing = status is _FIRING
            known = own.get(fingerprint)
            # What nearly every alert is: new, firing, and begun when its sender says.
            plain = known is None and firing and known_alerts.forgotten_until < sent <= received and sent > 0
            kind = ACCEPTED if plain else self._kind(tx, sender, alert, digest, known, received)
            if kind is None:
                repeated += 1
                if known is not None:
                    known.seen_at = received
                continue
            if kind is UPDATED and known is not None and min(sent, received) > known.starts_at:
                if over is None:
                    over = self._over(tx, own, parsed.alerts)
                if min(sent, received) > over.get(known.id, received) + self._limits.corrected:
                    superseded.append(known)
                    ends.append((known.id, position, SUPERSEDED, known.event))
                    kind = ACCEPTED
            if kind is ACCEPTED or known is None:
                id = AlertId(tx.id("alert"))
                starts_at = sent if plain else self._start(tx, sender, alert, known, received)
                fresh = Known(
                    id, starts_at, sent, status, digest, None if firing else received, event, received
                )
                self._add(sender, fingerprint, fresh, received)
                changes.append((id, position, ACCEPTED if firing else _ENDS[status], None))
                if firing:
                    accepted.append(id)
                    if starts_at != sent:
                        alert = msgspec.structs.replace(alert, starts_at=Instant(starts_at))
                    for opening in match(alert, received):
                        openings.append((id, alert, opening))
                else:
                    resolved += 1
            else:
                fresh = Known(
                    known.id,
                    known.starts_at,
                    sent,
                    status,
                    digest,
                    None if firing else received,
                    event,
                    received,
                )
                self._change(fresh)
                changes.append((known.id, position, kind, known.event))
                if firing:
                    updated += 1
                else:
                    self._ended.append(known.id)
                    resolved += 1
            known_alerts.put(own, sender, fingerprint, fresh)
        if openings:
            runs, refused, joined = open_runs(tx, openings)
            self._joined |= joined
            if len(refused) < len(openings):
                due = min(opening.next_at for _, _, opening in openings)
        if delivery.key is not None:
            started.note(tx, AlertId(own[parsed.alerts[0][0].fingerprint].id), delivery.key)
        elif sender == MANUAL:
            for alert_id, *_ in changes:
                started.over(tx, cast(int, alert_id))
        if superseded:
            self._end(tx, delivery, superseded, ends)
        if parsed.test:
            changes.append((None, 0, TEST, None))
        if accepted:
            key = (sender, surges.second(received))
            self.counts[key] = self.counts.get(key, 0) + len(accepted)
        if changes:
            self._record(delivery, event, changes)
        if parsed.bad:
            self._reject(tx, delivery)
        return Receipt(
            accepted=len(accepted),
            repeated=repeated,
            resolved=resolved,
            updated=updated,
            runs=tuple(dict.fromkeys(runs)) if runs else (),
            alerts=tuple(accepted),
            refused=tuple(refused),
            due=received if resolved else due,  # a resolve wakes the runs that wait
        )

    def _kind(
        self, tx: Tx, sender: str, alert: Alert, digest: int, known: Known | None, received: Instant
    ) -> str | None:
        """What an alert means, given what is known of it; None where it says nothing new."""
        status, sent = alert.status, alert.starts_at
        firing = status is Status.FIRING
        if known is None:
            return ACCEPTED if firing or not self._stored(tx, sender, alert, sent) else None
        if known.status is status and known.sent == sent and known.digest == digest:
            return None
        if known.resolved_at is None:
            if firing:
                return UPDATED
            if sent < known.sent and alert.ends_at is not None and alert.ends_at < known.sent:
                return None  # the end of an earlier episode, told late: this one still fires
            return _ENDS[status]
        if firing:
            late = received - known.resolved_at <= self._limits.late
            return None if sent <= known.sent and late else ACCEPTED
        if sent > known.sent:
            return ACCEPTED  # an episode whose firing never came
        if known.status is Status.CLOSED and status is Status.RESOLVED:
            return RESOLVED  # closed was no recovery; this is
        return None

    def _over(
        self, tx: Tx, own: Mapping[str, Known], alerts: Sequence[tuple[Alert, int]]
    ) -> Mapping[int, int]:
        """Since when those of the open alerts are over of which nobody said so; for a whole body at once."""
        ids = {
            known.id
            for alert, _ in alerts
            if (known := own.get(alert.fingerprint)) is not None
            and known.resolved_at is None
            and alert.starts_at > known.starts_at
        }
        return {id: max(came, ended or came) for id, came, ended in tx.any(_OVER, "alerts", sorted(ids))}

    def _end(self, tx: Tx, delivery: Delivery, former: Sequence[Known], changes: list[Change]) -> None:
        """End episodes whose end was never told: their sender says that the alerts began anew after all was
        over. A record of its own, since each alert of a body has only one change in the other."""
        event, received = tx.id("audit", len(changes)), delivery.received_at
        for known in former:
            self._change(
                Known(
                    known.id,
                    known.starts_at,
                    known.sent,
                    Status.CLOSED,
                    known.digest,
                    received,
                    event,
                    received,
                )
            )
            self._ended.append(known.id)
        self._record(delivery, event, changes)

    def _start(self, tx: Tx, sender: str, alert: Alert, known: Known | None, received: Instant) -> int:
        """When the episode began: what the sender says, unless that is in the future, absent, or
        another episode's; then it is the time of receipt."""
        sent = alert.starts_at
        starts_at = sent if 0 < sent <= received else received
        if known is not None and starts_at <= known.starts_at:
            return max(received, known.starts_at + 1)
        if known is None and self._stored(tx, sender, alert, starts_at):
            return received
        return starts_at

    def _stored(self, tx: Tx, sender: str, alert: Alert, starts_at: int) -> bool:
        if starts_at > self.known.forgotten_until:
            return False
        values = {"starts_at": starts_at, "fingerprint": alert.fingerprint, "sender": sender}
        return tx.one(_EXISTS, values) is not None

    # ------------------------------------------------------------ writing

    def _add(self, sender: str, fingerprint: str, known: Known, received: Instant) -> None:
        self.alerts.append(
            (
                known.id,
                sender,
                fingerprint,
                known.starts_at,
                None if known.sent == known.starts_at else known.sent,
                _TEXT[known.status],
                known.digest,
                received,
                known.resolved_at,
                known.event,
                known.event,
            )
        )

    def _change(self, known: Known) -> None:
        self.updates.append(
            (
                _TEXT[known.status],
                None if known.sent == known.starts_at else known.sent,
                known.digest,
                known.resolved_at,
                known.event,
                known.id,
            )
        )

    def _record(self, delivery: Delivery, event: int, changes: list[Change]) -> None:
        parsed = delivery.parsed
        self._last_event = max(self._last_event, event)
        self.events.append(
            (
                event,
                delivery.received_at,
                delivery.sender,
                delivery.kind,
                delivery.revision,
                parsed.truncated,
                1 if parsed.test else 0,
                _changes.encode(changes).decode(),
                delivery.body,
            )
        )

    def _reject(self, tx: Tx, delivery: Delivery) -> None:
        bad = delivery.parsed.bad
        self._rejected.keep(tx, delivery.sender, 200, bad)
        event = AuditEvent(
            kind="alert.rejected",
            actor=f"sender:{delivery.sender}",
            reason="invalid_alert",
            observed=f"{bad[0].field}: {bad[0].message}"[:1_000],
            data={"sender": delivery.sender, "rejected": len(bad)},
        )
        trail.append(tx, (event,))

    def wake(self, tx: Tx) -> Collection[int]:
        """A resolve makes the runs of that episode look again, if they have not acted. Returns the runs that
        an episode joined and that have ended since it was looked for: then nothing of this may be kept."""
        return claims.wake_about(tx, self._ended, self._joined)

    def clear(self) -> None:
        """The buffered rows are written, or given up."""
        self.alerts, self.updates, self.events, self._ended, self.counts = [], [], [], [], {}
        self._joined = set()

    def commit(self, now: Instant) -> None:
        """The transaction is durable."""
        self.known.commit()
        self._durable_event = self._last_event
        self.known.forget(now - self._limits.remember)

    def undone(self) -> None:
        """Another piece of work in this transaction was undone: what it counted is not true."""
        self._rejected.forget()

    def rollback(self, mark: int = 0) -> None:
        """Undo what was taken since the mark."""
        self.clear()
        self.known.rollback(mark)
        self._rejected.forget()
