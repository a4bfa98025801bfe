"""`contracts.Store` on PostgreSQL: the engine for several replicas, with no leader among them.

The rules are those of every engine; here is what is different where several write: claims skip what
another replica is just taking, ADMIT can lose the answer to its COMMIT, sealing waits for whoever may
still commit an older number, and one replica at a time seals and prunes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from remediator.contracts import (
    Admission,
    Bad,
    Held,
    Jumping,
    Move,
    NotifierState,
    Outgoing,
)
from remediator.errors import LeaseLost
from remediator.model import AuditEvent, Control, Instant, Message, Millis, Run
from remediator.store import admit, claims, moves, outbox, prune, sealing, timers, trail
from remediator.store.postgres import claims as postgres_claims
from remediator.store.postgres import clock as postgres_clock
from remediator.store.postgres.calls import PostgresCalls
from remediator.store.postgres.seen import FORGET
from remediator.store.postgres.tx import CLASS, NUMBERING, SEALING, PostgresTx
from remediator.store.rejected import Rejected
from remediator.store.tx import UPKEEP, Tx, Undo

_ALONE = f"SELECT pg_try_advisory_xact_lock({CLASS}, {SEALING})"
_NUMBERED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM remediator_audit"
_NUMBERING = f"""
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'advisory' AND classid = {CLASS} AND objid = {NUMBERING} AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608
_PATIENCE = 5.0
"""Seconds that a sealer waits for older transactions; no transaction of a daemon lives longer."""


class PostgresStore(PostgresCalls):
    """See `contracts.Store`; its methods are described there."""

    # ------------------------------------------------------------ intake

    async def reject(
        self, sender: str, status: int, bad: Sequence[Bad], events: Sequence[AuditEvent]
    ) -> None:
        def work(tx: PostgresTx) -> None:
            Rejected(self._limits).keep(tx, sender, status, bad)
            trail.append(tx, events)

        await self._write(work, self._limits.intake)

    # ------------------------------------------------------------ runs

    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        # Synced, unlike SQLite's: this process outlives a crash of the server, and an epoch that the
        # crash took back would be given out again.
        lease = self._limits.lease
        found = await self._write(lambda tx: postgres_claims.claim(tx, worker, limit, lease))
        self._held.take(found, time.monotonic())
        return found

    async def release(self, runs: Sequence[Run]) -> None:
        self._held.drop(runs)
        await self._write(lambda tx: claims.release(tx, runs))

    async def move(self, run: Run, move: Move) -> Run:
        self._held.drop((run,))
        by = self._reckoned()
        moved = await self._grouped(
            self._moves,
            lambda tx: moves.move(tx, run, timers.carried(move, by(tx)), self._lease(tx)),
            run,
            point="move",
            qualifier=str(move.outcome or move.state),
            settled=lambda tx: postgres_claims.moved(tx, run, move),
            ids={"audit": len(move.events)},
            wanted=move,
            by=by,
        )
        if any(update.outcome == "pending" for update in move.intents):
            self._held.take((moved,), time.monotonic())
        return moved

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        def work(tx: PostgresTx) -> Run | Held:
            answer = admit.admit(tx, run, admission, self._lease(tx))
            if isinstance(answer, Held):
                raise Undo(answer)
            return answer

        try:
            answer = await self._grouped(
                self._admits,
                work,
                run,
                point="admit",
                qualifier=str(admission.intent.kind),
                settled=lambda tx: postgres_claims.admitted(tx, run, admission),
                ids={"audit": len(admission.move.events), "intent": 1},
                wanted=admission,
            )
        except LeaseLost:
            self._held.drop((run,))
            raise
        if isinstance(answer, Run):
            self._held.take((answer,), time.monotonic())
        return answer

    # ------------------------------------------------------------ outbox

    async def due_messages(self, limit: int) -> Sequence[Outgoing]:
        return await self._write(lambda tx: self._sending.due(tx, limit))

    async def message_sent(self, id: int, event: AuditEvent) -> NotifierState | None:
        state = await self._write(lambda tx: outbox.sent(tx, id, event))
        self._sending.done(id)
        return state

    async def message_failed(self, id: int, retry_at: Instant, error: str) -> NotifierState | None:
        by = self._reckoned()
        state = await self._write(lambda tx: outbox.failed(tx, id, Instant(retry_at + by(tx)), error))
        self._sending.done(id)
        return state

    # ------------------------------------------------------------ the clock

    async def jumped(
        self,
        by: Millis,
        control: Control,
        event: AuditEvent,
        messages: Sequence[Message] = (),
        clock: Jumping | None = None,
    ) -> None:
        server = self._server_clock
        if server is None:
            return await super().jumped(by, control, event, messages, clock)

        def work(tx: PostgresTx) -> None:
            moved = Millis(tx.wall - tx.now)
            if moved:  # else another has written it, or the answer to that was lost
                self._jump(tx, moved, control, event, messages)
                postgres_clock.put(tx, moved)

        # Nobody else writes: what is reckoned by the old time is moved, or finds its lease gone.
        await self._write(work, alone=True)
        return await self._look(lambda tx: None)  # whoever begins looks at the clock

    # ------------------------------------------------------------ audit, upkeep

    async def seal(self) -> str:
        seconds = self._limits.upkeep
        more = True
        while more:
            more = await self._write(self._seal, seconds)
        return await self._read(sealing.head, seconds)

    def _seal(self, tx: PostgresTx) -> bool:
        """Write one seal; False if there is nothing more to seal, or another replica seals. What is committed
        meanwhile is for the next time: under load there would always be something."""
        alone = tx.one(_ALONE)
        numbered = tx.one(_NUMBERED)
        if alone is None or not alone[0] or numbered is None or not _all_ended(tx):
            return False
        sealed = sealing.prepare(tx, self._key, self._limits.seal_batch, numbered[0])
        if sealed is None:
            return False
        sealing.write(tx, sealed)
        return sealed.count >= self._limits.seal_batch

    async def prune(self, keep: Mapping[str, Millis]) -> Mapping[str, int]:
        total: dict[str, int] = {}
        while counts := await self._write(lambda tx: self._prune(tx, keep), self._limits.upkeep):
            for table, count in counts.items():
                total[table] = total.get(table, 0) + count
        return total

    def _prune(self, tx: PostgresTx, keep: Mapping[str, Millis]) -> dict[str, int]:
        tx.lock(UPKEEP)
        old = prune.find(tx, keep, self._limits.keep_intents, self._limits.prune_batch)
        if not old:
            return {}
        counts = prune.delete(tx, old)
        if old.rows.get("alert"):
            tx.run(FORGET)
        return counts

    def _hand_over(self, tx: Tx) -> None:
        self._held.release(tx)
        self._sending.hand_over(tx)


def _all_ended(tx: PostgresTx) -> bool:
    """Wait until every transaction that has taken a number so far has ended: what is not committed
    then never will be. False if one of them does not end."""
    waiting = {row[0] for row in tx.all(_NUMBERING)}
    end = time.monotonic() + _PATIENCE
    pause = 0.005
    while waiting:
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(0.1, 2 * pause)  # the look at the locks of a whole server is not cheap
        waiting &= {row[0] for row in tx.all(_NUMBERING)}
    return True
