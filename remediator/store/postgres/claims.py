"""Who works on what, among replicas: runs by leases, messages by putting them off, and whether a
transaction whose COMMIT had no answer was committed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from remediator.contracts import Admission, Hint, Move, Outgoing
from remediator.model import BEFORE_ADMIT, MINUTE, SECOND, Instant, IntentOutcome, Millis, Run, RunId
from remediator.store import claims, effects, outbox, rows
from remediator.store.rows import RUN, encode
from remediator.store.tx import Tx

_CLAIM = f"""
WITH begun AS (
  SELECT id FROM run WHERE {claims.BEGUN}
  ORDER BY next_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
), waiting AS (
  SELECT id FROM run WHERE {claims.WAITING}
  ORDER BY next_at, id LIMIT :limit - (SELECT COUNT(*) FROM begun) FOR UPDATE SKIP LOCKED
), due AS (
  SELECT id FROM begun UNION ALL SELECT id FROM waiting
)
UPDATE run SET epoch = epoch + 1, worker = :worker, lease_until = :lease_until, woken = 0
WHERE id IN (SELECT id FROM due) RETURNING {RUN}
"""  # noqa: S608
# What is locked is being moved at this moment, which waits for nobody else.
_BEAT = """
WITH held AS (
  SELECT run.id FROM run
  JOIN unnest(CAST(:runs AS bigint[]), CAST(:epochs AS bigint[])) AS own (id, epoch)
    ON run.id = own.id AND run.epoch = own.epoch
  WHERE run.outcome IS NULL AND run.lease_until < :until
  ORDER BY run.id FOR UPDATE OF run SKIP LOCKED
)
UPDATE run SET lease_until = :until WHERE id IN (SELECT id FROM held)
"""
_ROW = f"SELECT {RUN}, lease_until FROM run WHERE id = :id FOR UPDATE"  # noqa: S608
_NONCE = "SELECT nonce FROM intent WHERE run = :run AND number = :number"
_DUE = f"""
WITH due AS (
  SELECT outbox.id FROM outbox LEFT JOIN notifier ON notifier.name = outbox.notifier
  WHERE sent_at IS NULL AND (next_at <= :now OR id = ANY(:own))
    AND (notifier.retry_at IS NULL OR notifier.retry_at <= :now)
    AND {outbox.IN_ORDER}
  ORDER BY attempts, at, {outbox.PLACE} LIMIT :limit FOR UPDATE OF outbox SKIP LOCKED
)
UPDATE outbox SET next_at = :later WHERE id IN (SELECT id FROM due)
RETURNING attempts, at, {outbox.PLACE}, id, message, notifier
"""  # noqa: S608
_HAND_OVER = "UPDATE outbox SET next_at = :now WHERE id = ANY(:own) AND sent_at IS NULL"

LONGEST = Millis(5 * MINUTE)
"""A claim is not kept up longer than this: whoever has not moved a run by then has lost it."""
_SENDING = Millis(60 * SECOND)
"""How long a message is one replica's to send."""


def claim(tx: Tx, worker: str, limit: int, lease: Millis) -> Sequence[Run]:
    """Take due runs that no other replica is just taking."""
    effects.open_returns(tx)
    values = {"now": tx.now, "limit": limit, "worker": worker, "lease_until": tx.now + lease}
    found = [rows.run(row) for row in tx.change(_CLAIM, values)]
    return sorted(found, key=lambda run: (run.state in BEFORE_ADMIT, run.next_at or 0, run.id))


def admitted(tx: Tx, run: Run, admission: Admission) -> Run | None:
    """The run as ADMIT left it, if its intent is there. Waits for whoever still has the row."""
    row = tx.one(_ROW, {"id": run.id})
    nonce = tx.one(_NONCE, {"run": run.id, "number": admission.intent.number})
    if row is None or nonce is None or nonce[0] != admission.intent.nonce:
        return None
    found = rows.run(row)
    return found if found.epoch == run.epoch else None


def moved(tx: Tx, run: Run, change: Move) -> Run | None:
    """The run as the move left it, if it was made. Waits for whoever still has the row."""
    row = tx.one(_ROW, {"id": run.id})
    if row is None:
        return None
    found = rows.run(row)
    keeps = any(update.outcome is IntentOutcome.PENDING for update in change.intents)
    wanted = (run.epoch, change.state, change.outcome, change.reason, encode(change.progress))
    if (found.epoch, found.state, found.outcome, found.reason, encode(found.progress)) != wanted:
        return None
    return found if keeps or row[-1] is None else None


class Held:
    """The runs that this process holds, for its heartbeat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[RunId, tuple[int, float]] = {}

    def take(self, runs: Iterable[Run], now: float) -> None:
        """They are ours from now on. Args: now: on time.monotonic."""
        with self._lock:
            self._runs.update((run.id, (run.epoch, now)) for run in runs)

    def drop(self, runs: Iterable[Run]) -> None:
        """They are nobody's, or somebody else's."""
        with self._lock:
            for run in runs:
                if self._runs.get(run.id, (None, 0.0))[0] == run.epoch:
                    del self._runs[run.id]

    def beat(self, tx: Tx, lease: Millis, now: float) -> None:
        """Prolong the leases, except those held for too long."""
        with self._lock:
            self._runs = {id: one for id, one in self._runs.items() if now - one[1] < LONGEST / SECOND}
            held = sorted((id, epoch) for id, (epoch, _) in self._runs.items())
        if held:
            ids, epochs = [id for id, _ in held], [epoch for _, epoch in held]
            tx.run(_BEAT, {"runs": ids, "epochs": epochs, "until": tx.now + lease})

    def release(self, tx: Tx) -> None:
        """Hand them all back: this process ends."""
        with self._lock:
            held = sorted((id, epoch) for id, (epoch, _) in self._runs.items())
            self._runs = {}
        tx.many(claims.RELEASE, [{"now": tx.now, "id": id, "epoch": epoch} for id, epoch in held])
        if held:
            tx.hint(Hint.DUE)


class Sending:
    """The messages that this process sends. It is told of them again until it says what became of
    them; the other replicas are not, unless it falls silent."""

    def __init__(self) -> None:
        self._own: dict[int, Instant] = {}

    def due(self, tx: Tx, limit: int) -> Sequence[Outgoing]:
        """Messages to be sent now, oldest first."""
        own = [id for id, until in self._own.items() if until > tx.now]
        later = Instant(tx.now + _SENDING)
        patience = tx.now - outbox.PATIENCE
        values = {"now": tx.now, "own": own, "limit": limit, "later": later, "patience": patience}
        found = sorted(tx.change(_DUE, values))
        self._own = {**{id: self._own[id] for id in own}, **{row[3]: later for row in found}}
        return outbox.probes(
            tx,
            [
                outbox.outgoing(id, at, attempts, message, notifier)
                for attempts, at, _, id, message, notifier in found
            ],
        )

    def done(self, id: int) -> None:
        """What became of it is written."""
        self._own.pop(id, None)

    def hand_over(self, tx: Tx) -> None:
        """Leave the rest to the others."""
        own = list(self._own)
        if own:
            tx.run(_HAND_OVER, {"now": tx.now, "own": own})
