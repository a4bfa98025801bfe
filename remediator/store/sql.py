"""The methods of `contracts.Store` that are the same on every engine: each is one piece of work."""

from __future__ import annotations

from abc import abstractmethod
from asyncio import Future
from collections.abc import Collection, Mapping, Sequence

import msgspec

from remediator.contracts import (
    Admission,
    Arrivals,
    Claimant,
    Delivery,
    Facts,
    Flapping,
    Health,
    Held,
    Jumping,
    Match,
    Receipt,
    Revision,
    SealReport,
)
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
    Message,
    Millis,
    Reason,
    Run,
    RunId,
)
from remediator.store import (
    admit,
    brakes,
    claims,
    effects,
    find,
    judging,
    moves,
    outbox,
    policies,
    probe,
    saying,
    started,
    surges,
    timers,
    trail,
    verify,
)
from remediator.store.people import SqlPeople
from remediator.store.tx import Tx


class SqlStore(SqlPeople):
    """All of them, but for what an engine does in a way of its own."""

    # ------------------------------------------------------------ alerts

    @abstractmethod
    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | Future[Receipt]:
        """See `contracts.Intake`."""

    async def accept(self, delivery: Delivery, match: Match, claimant: Claimant | None = None) -> Receipt:
        taken = self.offer(delivery, match, claimant)
        return taken if isinstance(taken, Receipt) else await taken

    async def episode(self, id: AlertId) -> Episode:
        return await self._look(lambda tx: self._history.episode(tx, id))

    async def episodes(self, run: RunId) -> Sequence[Episode]:
        return await self._look(lambda tx: self._history.of_run(tx, run))

    async def started(self, limit: int) -> Sequence[Episode]:
        return await self._look(
            lambda tx: [self._history.episode(tx, alert) for alert in started.ended(tx, limit)]
        )

    async def find_episodes(
        self, *, firing: bool | None = None, before: AlertId | None = None, limit: int = 100
    ) -> Sequence[Episode]:
        return await self._read(lambda tx: self._history.find(tx, firing, before, limit))

    # ------------------------------------------------------------ runs

    async def facts(self, runs: Sequence[Run]) -> Mapping[RunId, Facts]:
        def work(tx: Tx) -> Mapping[RunId, Facts]:
            controls = tx.known("controls", lambda: tuple(brakes.on(tx)))
            episodes = self._history.of_runs(tx, [run.id for run in runs])
            numbered = moves.intents_of(tx, [run.id for run in runs if run.progress.number])
            return {
                run.id: Facts(
                    episodes=tuple(episodes[run.id]),
                    intents=tuple(numbered.get(run.id, ())),
                    controls=controls,
                    now=tx.now,
                )
                for run in runs
            }

        return await self._look(work)

    async def next_due(self) -> Instant | None:
        return await self._look(claims.next_due)

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

    async def wake_held(self, reasons: Sequence[Reason]) -> None:
        # A transaction of its own, after the one that lifts what they wait for: a run that was claimed
        # before then may still wait for it, and is woken; one that is claimed after it finds it gone.
        await self._write(lambda tx: claims.wake_held(tx, reasons))

    # ------------------------------------------------------------ policies

    async def propose(
        self, revision: Revision, events: Sequence[AuditEvent], replica: str | None = None
    ) -> None:
        def work(tx: Tx) -> None:
            policies.propose(tx, revision)
            if replica is not None:
                policies.look(tx, replica, revision.hash)
            trail.append(tx, events)

        await self._write(work)

    async def looked(self, replica: str) -> str | None:
        return await self._look(lambda tx: policies.looked(tx, replica))

    async def look(self, replica: str, hash: str) -> None:
        await self._write(lambda tx: policies.look(tx, replica, hash))

    async def active_revision(self) -> str | None:
        return await self._look(policies.active)

    async def revision(self, hash: str) -> Revision:
        return await self._read(lambda tx: policies.revision(tx, hash))

    async def policy_names(self) -> Collection[str]:
        return await self._read(policies.names)

    # ------------------------------------------------------------ brakes, leases

    async def controls(self) -> Sequence[Control]:
        return await self._look(brakes.on)

    async def set_control(
        self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()
    ) -> Control:
        def work(tx: Tx) -> Control:
            standing = brakes.put(tx, control)
            trail.append(tx, (_as_it_stands(control, standing, event),))
            outbox.post(tx, messages)
            return standing

        return await self._write(work)

    async def trip(self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()) -> bool:
        def work(tx: Tx) -> bool:
            news = brakes.trip(tx, control)
            if news:
                trail.append(tx, (event,))
                outbox.post(tx, messages)
            return news

        return await self._write(work)

    async def arrivals(self, after: Instant, sender: str | None = None) -> Sequence[Arrivals]:
        name = f"arrivals {after} {sender}"  # runs that are claimed together ask the same
        return await self._look(lambda tx: tx.known(name, lambda: surges.arrivals(tx, after, sender)))

    async def healed(self, run: Run, flapping: Flapping) -> int:
        def work(tx: Tx) -> int:
            if judging.steady(tx, run.policy, flapping):
                return 0
            return judging.healed(tx, run, flapping, run.target_key)

        return await self._look(work)

    async def jumped(
        self,
        by: Millis,
        control: Control,
        event: AuditEvent,
        messages: Sequence[Message] = (),
        clock: Jumping | None = None,
    ) -> None:
        await self._write(lambda tx: self._jump(tx, by, control, event, messages))

    @staticmethod
    def _jump(tx: Tx, by: Millis, control: Control, event: AuditEvent, messages: Sequence[Message]) -> None:
        brakes.put(tx, control)
        trail.append(tx, (event,))
        outbox.post(tx, messages)
        timers.shift(tx, by)

    async def clear_control(self, kind: ControlKind, scope: str, event: AuditEvent) -> bool:
        was_on = await self._write(lambda tx: brakes.clear(tx, kind, scope, event))
        if was_on:
            await self.wake_held((brakes.HOLDS[kind],))
        return was_on

    async def effects(self, *, open: bool = True) -> Sequence[Effect]:
        return await self._read(lambda tx: effects.find(tx, open))

    async def effect(self, id: int) -> Effect:
        return await self._look(lambda tx: effects.one(tx, id))

    async def renew_effect(self, id: int, until: Instant, event: AuditEvent) -> Effect:
        return await self._write(lambda tx: effects.renew(tx, id, until, event))

    async def recall_effect(self, id: int, event: AuditEvent) -> Run:
        return await self._write(lambda tx: moves.one(tx, effects.recall(tx, id, event)))

    async def full(self, run: Run, admission: Admission) -> Held | None:
        return await self._look(lambda tx: admit.full(tx, run, admission))

    async def names(self, target_key: str) -> Sequence[str]:
        return await self._look(lambda tx: find.names(tx, target_key))

    async def targets(self) -> Collection[str]:
        return await self._read(find.targets)

    async def locks(self) -> Mapping[str, RunId]:
        return await self._read(brakes.locks)

    # ------------------------------------------------------------ audit

    async def record(self, events: Sequence[AuditEvent], messages: Sequence[Message] = ()) -> None:
        def work(tx: Tx) -> None:
            trail.append(tx, events)
            outbox.post(tx, messages)

        await self._write(work)

    async def once(
        self, key: str, keep: Instant, events: Sequence[AuditEvent], messages: Sequence[Message] = ()
    ) -> bool:
        def work(tx: Tx) -> bool:
            if not saying.once(tx, key, keep):
                return False
            trail.append(tx, events)
            outbox.post(tx, messages)
            return True

        return await self._write(work)

    async def said(self, keys: Sequence[str]) -> frozenset[str]:
        return await self._look(lambda tx: saying.said(tx, keys))

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

    async def verify(self, head: str | None = None) -> SealReport:
        return await self._read(lambda tx: verify.verify(tx, self._key, head), self._limits.upkeep)

    # ------------------------------------------------------------ upkeep

    async def probe(self, size: int = 0) -> None:
        await self._write(lambda tx: probe.write(tx, size), self._limits.intake)
        if size:
            self.unwritable = None

    async def health(self) -> Health:
        return await self._read(find.health)


def _as_it_stands(wanted: Control, standing: Control, event: AuditEvent) -> AuditEvent:
    """The event, and what became of a brake that was on already."""
    before = standing.data.get("before")
    if standing.actor != wanted.actor or standing.since != wanted.since:
        stays = {"reason": standing.reason, "actor": standing.actor, "until": standing.until}
        return msgspec.structs.replace(event, data={**event.data, "stays": stays})
    if before is not None:
        return msgspec.structs.replace(event, data={**event.data, "replaced": before})
    return event
