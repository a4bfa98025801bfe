"""`contracts.Store` on one SQLite file: the embedded default. Each method is one piece of work."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from remediator.contracts import (
    Admission,
    Bad,
    Delivery,
    Health,
    Held,
    Match,
    Move,
    Outgoing,
    Receipt,
    Revision,
    SealReport,
)
from remediator.errors import Conflict
from remediator.model import (
    AlertId,
    AuditEvent,
    AuditRecord,
    Control,
    ControlKind,
    Effect,
    Episode,
    Instant,
    Intent,
    Millis,
    Run,
    RunId,
)
from remediator.store import (
    admit,
    brakes,
    claims,
    effects,
    find,
    moves,
    outbox,
    policies,
    prune,
    sealing,
    trail,
    verify,
)
from remediator.store.prune import Old
from remediator.store.sqlite_calls import SqliteCalls
from remediator.store.sqlite_tx import SqliteTx
from remediator.store.writer import Undo


class SqliteStore(SqliteCalls):
    """See `contracts.Store`; its methods are described there."""

    # ------------------------------------------------------------ intake

    async def accept(self, delivery: Delivery, match: Match) -> Receipt:
        return await self._take(delivery, match)

    async def reject(
        self, sender: str, status: int, bad: Sequence[Bad], events: Sequence[AuditEvent]
    ) -> None:
        def work(tx: SqliteTx) -> None:
            self._rejected.keep(tx, sender, status, bad)
            trail.append(tx, events)

        await self._write(work, self._limits.intake)

    async def episode(self, id: AlertId) -> Episode:
        return await self._look(lambda tx: self._history.episode(tx, id))

    async def episodes(self, run: RunId) -> Sequence[Episode]:
        return await self._look(lambda tx: self._history.of_run(tx, run))

    async def find_episodes(
        self, *, firing: bool | None = None, before: AlertId | None = None, limit: int = 100
    ) -> Sequence[Episode]:
        return await self._read(lambda tx: self._history.find(tx, firing, before, limit))

    # ------------------------------------------------------------ runs

    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        # A claim need not be synced: whoever could profit from its loss would have to be dead.
        return await self._write(lambda tx: claims.claim(tx, worker, limit, self._lease(tx)), sync=False)

    async def release(self, runs: Sequence[Run]) -> None:
        await self._write(lambda tx: claims.release(tx, runs), sync=False)

    async def next_due(self) -> Instant | None:
        return await self._look(claims.next_due)

    async def move(self, run: Run, move: Move) -> Run:
        return await self._write(
            lambda tx: moves.move(tx, run, move, self._lease(tx)),
            point="move",
            qualifier=str(move.outcome or move.state),
        )

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        def work(tx: SqliteTx) -> Run | Held:
            answer = admit.admit(tx, run, admission, self._lease(tx))
            if isinstance(answer, Held):
                raise Undo(answer)
            return answer

        return await self._write(work, point="admit", qualifier=str(admission.intent.kind))

    async def evidence(self, run: RunId, number: int, events: Sequence[AuditEvent]) -> None:
        await self._write(lambda tx: trail.append(tx, events))

    async def run(self, id: RunId) -> Run:
        return await self._look(lambda tx: moves.one(tx, id))

    async def find_runs(
        self,
        *,
        open: bool | None = None,
        policy: str | None = None,
        alert: AlertId | None = None,
        before: RunId | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        return await self._read(
            lambda tx: find.runs(tx, open=open, policy=policy, alert=alert, before=before, limit=limit)
        )

    async def intents(self, run: RunId) -> Sequence[Intent]:
        return await self._look(lambda tx: moves.intents(tx, run))

    async def shadow_count(self, policy: str, since: Instant) -> int:
        return await self._read(lambda tx: find.shadow_count(tx, policy, since))

    async def cancel(self, run: RunId, event: AuditEvent) -> Run:
        return await self._write(lambda tx: moves.cancel(tx, run, event), point="move", qualifier="cancelled")

    async def wake(self, run: RunId) -> None:
        await self._write(lambda tx: claims.wake(tx, run))

    # ------------------------------------------------------------ policies

    async def propose(self, revision: Revision, events: Sequence[AuditEvent]) -> None:
        def work(tx: SqliteTx) -> None:
            policies.propose(tx, revision)
            trail.append(tx, events)

        await self._write(work)

    async def active_revision(self) -> str | None:
        return await self._look(policies.active)

    async def revision(self, hash: str) -> Revision:
        return await self._read(lambda tx: policies.revision(tx, hash))

    # ------------------------------------------------------------ brakes, leases

    async def controls(self) -> Sequence[Control]:
        return await self._look(brakes.on)

    async def set_control(self, control: Control, event: AuditEvent) -> None:
        def work(tx: SqliteTx) -> None:
            brakes.put(tx, control)
            trail.append(tx, (event,))

        await self._write(work)

    async def clear_control(self, kind: ControlKind, scope: str, event: AuditEvent) -> bool:
        return await self._write(lambda tx: brakes.clear(tx, kind, scope, event))

    async def effects(self, *, open: bool = True) -> Sequence[Effect]:
        return await self._read(lambda tx: effects.find(tx, open))

    async def effect(self, id: int) -> Effect:
        return await self._look(lambda tx: effects.one(tx, id))

    async def locks(self) -> Mapping[str, RunId]:
        return await self._read(brakes.locks)

    # ------------------------------------------------------------ outbox

    async def due_messages(self, limit: int) -> Sequence[Outgoing]:
        return await self._read(lambda tx: outbox.due(tx, limit))

    async def message_sent(self, id: int, event: AuditEvent) -> None:
        await self._write(lambda tx: outbox.sent(tx, id, event))

    async def message_failed(self, id: int, retry_at: Instant, error: str) -> None:
        await self._write(lambda tx: outbox.failed(tx, id, retry_at, error))

    # ------------------------------------------------------------ audit

    async def record(self, events: Sequence[AuditEvent]) -> None:
        await self._write(lambda tx: trail.append(tx, events))

    async def audit(
        self,
        *,
        alert: AlertId | None = None,
        run: RunId | None = None,
        policy: str | None = None,
        target: str | None = None,
        kind: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        before: int | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Sequence[AuditRecord]:
        search = find.Search(alert, run, policy, target, kind, since, until, before, limit, oldest_first)
        return await self._read(lambda tx: find.audit(tx, search))

    async def seal(self) -> str:
        limit, seconds = self._limits.seal_batch, self._limits.upkeep
        async with self._sealing:
            while True:
                sealed = await self._read(lambda tx: sealing.prepare(tx, self._key, limit), seconds)
                if sealed is None:
                    return await self._read(sealing.head)
                # Excluded: a seal whose caller was cancelled was on its way and is written. Look again.
                with contextlib.suppress(Conflict):
                    await self._write(lambda tx, one=sealed: sealing.write(tx, one), seconds)  # type: ignore[misc]

    async def verify(self, head: str | None = None) -> SealReport:
        return await self._read(lambda tx: verify.verify(tx, self._key, head), self._limits.upkeep)

    # ------------------------------------------------------------ upkeep

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

    async def health(self) -> Health:
        return await self._read(find.health)
