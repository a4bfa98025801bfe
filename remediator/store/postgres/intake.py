"""Takes deliveries on PostgreSQL: what an alert is, is decided under a lock from the rows themselves.

One thread takes everything that is queued. What only repeats the rows is answered by one read. The
rest is one transaction: it holds its senders' locks, reads again what is known of the alerts, decides
by the same rules as SQLite's intake, and writes many rows at once. The unique indexes stand behind
the locks: whoever meets one starts again from what is committed then.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from remediator import failpoint
from remediator.contracts import Delivery, Match, Receipt
from remediator.errors import PayloadError, StoreError, StoreUnavailable
from remediator.store import surges
from remediator.store.intake import ALERT, EVENT, Intake
from remediator.store.limits import Limits
from remediator.store.postgres.link import Changed, CommitLost, Link, again, tell
from remediator.store.postgres.seen import Seen
from remediator.store.postgres.tx import PostgresTx
from remediator.store.rejected import Rejected
from remediator.store.tx import Row

if TYPE_CHECKING:
    import asyncio

_GROUP = 256
"""Deliveries in one transaction at most."""
_TRIES = 6
_KNOWN = """
SELECT latest.* FROM unnest(CAST(:senders AS text[]), CAST(:fingerprints AS text[])) AS wanted (sender, fingerprint)
CROSS JOIN LATERAL (
  SELECT id, sender, fingerprint, starts_at, sent_starts_at, status, digest, resolved_at, last_event
  FROM alert WHERE alert.sender = wanted.sender AND alert.fingerprint = wanted.fingerprint
  ORDER BY id DESC LIMIT 1
) AS latest
"""  # noqa: E501
_UPDATE = """
UPDATE alert SET status = new.status, sent_starts_at = new.sent, digest = new.digest,
  resolved_at = new.resolved_at, last_event = new.event
FROM unnest(
  CAST(:status AS text[]), CAST(:sent AS bigint[]), CAST(:digest AS bigint[]),
  CAST(:resolved_at AS bigint[]), CAST(:event AS bigint[]), CAST(:id AS bigint[])
) AS new (status, sent, digest, resolved_at, event, id)
WHERE alert.id = new.id
"""
_UPDATED = ("status", "sent", "digest", "resolved_at", "event", "id")
_EVERYTHING = 1 << 62


class Taking:
    """One delivery in the queue, and in the end an answer or an error for its promise."""

    __slots__ = ("answer", "deadline", "delivery", "error", "match", "promise")

    def __init__(
        self, delivery: Delivery, match: Match, deadline: float, promise: asyncio.Future[Receipt]
    ) -> None:
        self.delivery = delivery
        self.match = match
        self.deadline = deadline
        self.promise = promise
        self.answer: Receipt | None = None
        self.error: BaseException | None = None


class IntakeLane:
    """The thread.

    Args:
        answered: told of each group, in the lane's thread, when all of it has its answers and errors.
        connect: makes a connection.
        changed: told when the server is no longer one to write to.
    """

    def __init__(
        self,
        answered: Callable[[Sequence[Taking]], None],
        connect: Callable[[], Link],
        changed: Callable[[str], None],
        limits: Limits,
        seen: Seen,
    ) -> None:
        self._answered = answered
        self._connect = connect
        self._changed = changed
        self._limits = limits
        self._seen = seen
        self._link: Link | None = None
        self._runs = 0
        """How many the last group opened or joined: the next one will want as many ids."""
        self._repeating = True
        """Whether the last deliveries held one that only repeated what is committed."""
        self._queue: queue.SimpleQueue[Taking | None] = queue.SimpleQueue()
        self._next: deque[Taking | None] = deque()
        """Taken from the queue, and left for the next group."""
        self._thread = threading.Thread(target=self._run, name="store-intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, taking: Taking) -> None:
        """Queue a delivery."""
        self._queue.put(taking)

    def stop(self) -> None:
        """Take what is queued, then end. Blocks."""
        self._queue.put(None)
        self._thread.join()
        if self._link is not None:
            self._link.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            item = self._next.popleft() if self._next else self._queue.get()
            group: list[Taking] = []
            while True:
                if item is None:
                    stopping = True
                else:
                    group.append(item)
                if len(group) >= _GROUP:
                    break
                try:
                    item = self._next.popleft() if self._next else self._queue.get_nowait()
                except queue.Empty:
                    break
            self._taken(group)
            self._answered(group)

    def _join(self, group: Sequence[Taking]) -> list[Taking]:
        """What came while the group waited for its senders' locks goes along, if it is of these senders."""
        joined: list[Taking] = []
        if self._next:  # those came before
            return joined
        senders = {taking.delivery.sender for taking in group}
        while len(group) + len(joined) < _GROUP:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None or item.delivery.sender not in senders:
                self._next.append(item)
            else:
                joined.append(item)
            if item is None:
                break
        return joined

    # ------------------------------------------------------------ a group

    def _taken(self, group: list[Taking], *, alone: bool = False) -> None:
        """Let each have its answer or its error. What came meanwhile joins them, unless it is `alone`."""
        late = time.monotonic()
        why = "the store did not answer in time; nothing was taken, try again"
        _fail([taking for taking in group if taking.deadline <= late], StoreUnavailable(why))
        waiting = [taking for taking in group if taking.error is None]
        for attempt in range(_TRIES):
            if not waiting:
                break
            last = attempt == _TRIES - 1
            try:
                link = self._open()
                if self._repeating:
                    rows = link.read(partial(_known, deliveries=[taking.delivery for taking in waiting]))
                    known = self._intake(rows)
                    news = [taking for taking in waiting if not self._repeats(known, taking)]
                    self._repeating, waiting = len(news) < len(waiting), news
                if waiting:
                    self._take(link, waiting, group if not alone else waiting)
                break
            except CommitLost as lost:
                # Taken once more, it is a repeat if it was committed.
                if last:
                    _fail(waiting, StoreUnavailable(f"PostgreSQL was lost in a commit ({lost.__cause__})"))
            except Exception as error:  # noqa: BLE001 - also what matching raised: its caller is told
                if again(error) and not last:
                    time.sleep(0.01 * attempt)
                elif len(waiting) == 1 or self._all(error):
                    _fail(waiting, self._told(error))
                    break
                else:  # at least one of them cannot be written: find out which
                    for taking in waiting:
                        self._taken([taking], alone=True)
                    break

    def _open(self) -> Link:
        if self._link is None or not self._link.usable:
            self._link = self._connect()
        return self._link

    def _repeats(self, known: Intake, taking: Taking) -> bool:
        """Whether a delivery only says what is committed; then it is answered."""
        taking.answer = known.repeated(taking.delivery)
        if taking.answer is None:
            return False
        own, received = known.known.by_sender[taking.delivery.sender], taking.delivery.received_at
        self._seen.note((own[alert.fingerprint].id, received) for alert, _ in taking.delivery.parsed.alerts)
        return True

    def _take(self, link: Link, group: list[Taking], whole: list[Taking]) -> None:
        """Write a group. Args: whole: all that are to be answered, of which it is a part."""

        def work(tx: PostgresTx) -> Intake:
            if whole is not group:
                joined = self._join(group)
                group.extend(joined)
                whole.extend(joined)
            (rows,) = tx.reserve(self._wanted(group), _asking([taking.delivery for taking in group]))
            intake = self._intake(rows)
            for taking in group:
                taking.answer = intake.take(tx, taking.delivery, taking.match)
            _flush(tx, intake)
            return intake

        intake = link.write(
            work,
            lambda: failpoint.hit("accept.before_commit"),
            lambda: failpoint.hit("accept.after_commit"),
            locks=[f"intake:{sender}" for sender in sorted({taking.delivery.sender for taking in group})],
        )
        self._runs = sum(len(taking.answer.runs) for taking in group if taking.answer is not None)
        # Among nothing but news it is not worth looking beforehand for what only repeats.
        self._repeating = self._repeating or any(_only_repeats(taking) for taking in group)
        self._seen.note(
            (known.id, known.seen_at)
            for own in intake.known.by_sender.values()
            for known in own.values()
            if known.seen_at is not None
        )

    def _wanted(self, group: Sequence[Taking]) -> Mapping[str, int]:
        """How many ids of each counter they will nearly always do with."""
        alerts = [len(taking.delivery.parsed.alerts) for taking in group]
        changed, runs = sum(max(1, count) for count in alerts), min(self._runs, sum(alerts))
        return {"audit": changed + runs, "alert": max(1, sum(alerts)), "run": runs}

    def _intake(self, rows: Iterable[Row]) -> Intake:
        """The rules of intake, knowing these rows, which are all there is of their alerts."""
        intake = Intake(self._limits, Rejected(self._limits))
        intake.opened(_EVERYTHING)
        intake.known.load(cast(Iterable[Any], rows))
        return intake

    # ------------------------------------------------------------ faults

    @staticmethod
    def _all(error: BaseException) -> bool:
        return isinstance(tell(error), StoreUnavailable | Changed)

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, Changed):
            self._changed(str(error))
            return StoreUnavailable(str(error))
        if isinstance(error, OverflowError | UnicodeError):
            return PayloadError(f"a value of this delivery cannot be stored: {error}")
        told = tell(error)
        if told is not error and type(told) is StoreError:
            return PayloadError(f"a value of this delivery cannot be stored: {error}")
        return told


def _only_repeats(taking: Taking) -> bool:
    return taking.answer is not None and taking.answer.repeated == len(taking.delivery.parsed.alerts)


def _known(tx: PostgresTx, deliveries: Sequence[Delivery]) -> Sequence[Row]:
    """The latest row of each of their alerts, as `KnownAlerts.load` takes it."""
    sql, values = _asking(deliveries)
    return tx.all(sql, values) if values["senders"] else ()


def _asking(deliveries: Sequence[Delivery]) -> tuple[str, Mapping[str, list[str]]]:
    pairs = sorted({(one.sender, alert.fingerprint) for one in deliveries for alert, _ in one.parsed.alerts})
    return _KNOWN, {"senders": [sender for sender, _ in pairs], "fingerprints": [one for _, one in pairs]}


def _flush(tx: PostgresTx, intake: Intake) -> None:
    # What ends comes first, for only one episode of an alert is open at any time (`alert_open`). An alert may
    # have changed more than once, also in the very group that brought it.
    latest = {row[-1]: row for row in intake.updates}
    new = [_became(row, latest.pop(row[0], None)) for row in intake.alerts] if latest else intake.alerts
    if latest:
        columns = zip(*(latest[id] for id in sorted(latest)), strict=True)
        tx.run(_UPDATE, dict(zip(_UPDATED, map(list, columns), strict=True)))
    tx.copy("alert", ALERT, new)
    tx.append("alert_event", EVENT, intake.events)
    # Whoever adds to the same second waits for the end of this transaction.
    tx.last(surges.ADD, surges.rows(intake.counts))
    if ended := intake.wake(tx):
        from psycopg.errors import SerializationFailure

        raise SerializationFailure(f"runs {sorted(ended)} ended while an alert joined them")  # once more
    intake.clear()


def _became(row: Row, change: Row | None) -> Row:
    """A new alert's row, as the last change of its own group left it."""
    if change is None:
        return row
    status, sent, digest, resolved_at, event, _ = change
    return (*row[:4], sent, status, digest, row[7], resolved_at, row[9], event)


def _fail(group: Sequence[Taking], error: BaseException) -> None:
    for taking in group:
        taking.error = error
