"""`contracts.Store` on one SQLite file: the embedded default. Each method is one piece of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from remediator.contracts import (
    Admission,
    Bad,
    Held,
    Jumping,
    Move,
)
from remediator.errors import Conflict, StoreUnavailable
from remediator.model import (
    AuditEvent,
    Control,
    Instant,
    Message,
    Millis,
    Run,
)
from remediator.store import (
    admit,
    claims,
    moves,
    prune,
    sealing,
    trail,
)
from remediator.store.prune import Old
from remediator.store.sql import SqlStore
from remediator.store.sqlite.calls import SqliteCalls
from remediator.store.sqlite.file import Place
from remediator.store.sqlite.queue import Admitting, Call, Promise
from remediator.store.sqlite.tx import SqliteTx
from remediator.store.tx import Undo


class SqliteStore(SqliteCalls, SqlStore):
    """See `contracts.Store`; its methods are described there."""

    _place: Place | None = None
    _sealed = -1
    """The number of the group up to which everything is sealed; -1 before the first look."""
    _chain = ""

    async def open(self) -> None:
        await super().open()
        if self._path is not None and not self._read_only:
            self._place = Place(self._path)
            self._groups().lost = self._place.lost

    @property
    def fatal(self) -> StoreUnavailable | None:
        """As described in `SqliteCalls`; also when the file is no longer where it was opened."""
        return super().fatal or (self._place.gone() if self._place is not None else None)

    async def probe(self, size: int = 0) -> None:
        if self._place is not None and (full := self._place.full()) is not None:
            self.unwritable = full
            raise full
        await super().probe(size)

    async def jumped(
        self,
        by: Millis,
        control: Control,
        event: AuditEvent,
        messages: Sequence[Message] = (),
        clock: Jumping | None = None,
    ) -> None:
        def work(tx: SqliteTx) -> None:
            moved = by if clock is None else clock.jump()
            if moved:  # else it was done, and the answer to that was lost
                self._jump(tx, moved, control, event, messages)
            if clock is not None:
                tx.now = Instant(tx.now + moved)  # for what shares this transaction
                tx.then = clock.accept

        await self._write(work)

    async def reject(
        self, sender: str, status: int, bad: Sequence[Bad], events: Sequence[AuditEvent]
    ) -> None:
        def work(tx: SqliteTx) -> None:
            self._rejected.keep(tx, sender, status, bad)
            trail.append(tx, events)

        await self._write(work, self._limits.intake)

    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        # A claim need not be synced: whoever could profit from its loss would have to be dead.
        return await self._write(lambda tx: claims.claim(tx, worker, limit, self._lease(tx)), sync=False)

    async def release(self, runs: Sequence[Run]) -> None:
        await self._write(lambda tx: claims.release(tx, runs), sync=False)

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        def work(tx: SqliteTx) -> Run | Held:
            answer = admit.admit(tx, run, admission, self._lease(tx))
            if isinstance(answer, Held):
                raise Undo(answer)
            return answer

        def call(promise: Promise | None) -> Call:
            return Admitting(work, promise, run=run, admission=admission, lease=self._lease)

        return cast(Run | Held, await self._put(call, "admit"))

    async def move(self, run: Run, move: Move) -> Run:
        def work(tx: SqliteTx) -> Run:
            return moves.move(tx, run, move, self._lease(tx), keep=True)

        def call(promise: Promise | None) -> Call:
            qualifier = str(move.outcome or move.state)
            return Call(work, promise, point="move", qualifier=qualifier, whole=True)

        return cast(Run, await self._put(call, "move"))

    async def seal(self) -> str:
        limit, seconds = self._limits.seal_batch, self._limits.upkeep
        async with self._sealing:
            self._check_writable()
            while self._sealed != (commits := self._groups().commits):
                sealed = await self._read(lambda tx: sealing.prepare(tx, self._key, limit), seconds)
                if sealed is None:
                    self._chain = await self._read(self._head)
                    self._sealed = commits  # nobody else writes to this file
                    break
                # Excluded: a seal whose caller was cancelled was on its way and is written. Look again.
                try:
                    await self._write(lambda tx, one=sealed: sealing.write(tx, one), seconds)  # type: ignore[misc]
                except Conflict:
                    continue
                if sealed.count < limit:  # what is committed meanwhile is for the next time
                    self._chain = await self._read(self._head)
                    break
            return self._chain

    def _head(self, tx: SqliteTx) -> str:
        if self._lock is not None and not self._read_only:
            self._lock.note(sealing.upto(tx))
        return sealing.head(tx)

    async def prune(self, keep: Mapping[str, Millis]) -> Mapping[str, int]:
        limits = self._limits
        total: dict[str, int] = {}
        while True:
            old = await self._read(
                lambda tx: prune.find(tx, keep, limits.keep_intents, limits.prune_batch), limits.upkeep
            )
            if not old:
                return total
            counts = await self._write(lambda tx, found=old: self._delete(tx, found), limits.upkeep)  # type: ignore[misc]
            for table, count in counts.items():
                total[table] = total.get(table, 0) + count

    def _delete(self, tx: SqliteTx, old: Old) -> dict[str, int]:
        tx.save_ids()
        counts = prune.delete(tx, old)
        for id, sender, fingerprint in old.rows.get("alert", ()):
            self._intake.known.drop(sender, fingerprint, id)
        self._rejected.forget()
        return counts
