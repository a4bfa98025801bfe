"""The assembled daemon: what the web server and the command line are given, and its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from remediator import metrics
from remediator.clock import SteadyClock, SystemClock, beat
from remediator.contracts import Catalogue, Claimant, Hint, Receiver, Store
from remediator.engine import lease, manual
from remediator.engine.announcing import Announcing
from remediator.engine.authority import refuse
from remediator.engine.case import nonce
from remediator.engine.explain import Explanation, explain
from remediator.engine.incident.watch import Incidents
from remediator.engine.manual import Wish
from remediator.engine.policies import Policies
from remediator.engine.task import CLOCK, PATIENCE, REDIS, WORKER, Task, ended
from remediator.engine.upkeep import (
    ClockWatch,
    Gauges,
    Probe,
    Reloading,
    Retention,
    Sealer,
    StormWatch,
)
from remediator.engine.worker import Worker
from remediator.errors import Conflict, NotFound, StoreError
from remediator.live.exchange import Exchange
from remediator.live.flood import Flood
from remediator.live.hub import Hub
from remediator.live.report import FloodReport
from remediator.model import (
    AlertId,
    Approval,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Effect,
    Incident,
    IncidentId,
    Instant,
    Millis,
    Outcome,
    Run,
    RunId,
)
from remediator.settings import Role, Settings

log = structlog.get_logger()


@dataclass
class Daemon:
    """Everything wired together. `wiring.build` makes one.

    flood: how many bodies each sender posts. hub: who is told of changes. exchange: tells the other
    replicas of both, where there is a Redis.
    drain: sends the outbox until cancelled. page: calls people when the store is gone. warm: reaches
    what must be reached before it is needed.
    close: lets go of connections, after all else. clock: the store's, where it is not the database's.
    pace: how many times longer than usual its upkeep waits between turns; for simulation.
    nonce: marks what a person starts. loud: is told of each fault of a task, besides the log.
    patience: seconds for which a vital task may fail before the process is of no more use.
    """

    settings: Settings
    store: Store
    receivers: Mapping[str, Receiver]
    catalogue: Catalogue
    policies: Policies
    worker: Worker
    drain: Callable[[], Awaitable[None]]
    incidents: Incidents
    page: Callable[[], Awaitable[None]]
    warm: Callable[[], Awaitable[None]]
    close: Callable[[], None]
    flood: Flood = field(default_factory=lambda: Flood({}, SystemClock()))
    hub: Hub = field(default_factory=Hub)
    exchange: Exchange | None = None
    clock: SteadyClock | None = None
    pace: float = 1.0
    nonce: Callable[[], str] = nonce
    loud: Callable[[Exception], None] = lambda _error: None
    patience: float = PATIENCE
    _tasks: list[Task] = field(default_factory=list)
    _started: bool = False

    async def start(self) -> None:
        """Open the store, load the policies, and begin to work.

        Raises:
            ConfigurationError: the policies cannot be loaded.
            StoreError: the store cannot be opened.
        """
        look = asyncio.Event()

        def hinted(hint: Hint) -> None:
            if hint is Hint.POLICIES:
                look.set()
            self.wake()  # also then: runs may wait for the policies

        self.store.hints(hinted)
        await self.store.open()
        try:
            await self.policies.start()
        except BaseException:
            await self.store.close()
            raise
        keep = self.settings.retention.model_dump()
        reload = self.settings.policies.reload / 1000
        turns: tuple[tuple[float, str, Callable[[], Awaitable[None]]], ...] = (
            (0.5, "seal", Sealer(self.store)),
            (1.0, "probe", Probe(self.store)),
            (1.0, "page", self.page),
            (1.0, "storms", StormWatch(self.store, self.policies)),
            (15.0, "windows", Announcing(self.store, self.policies)),
            (2.0, "gauges", Gauges(self.store)),
            (2.0, "started", manual.Endings(self.store)),
            (3600.0, "retention", Retention(self.store, keep)),
            (1.0, CLOCK, ClockWatch(self.store, self.clock)),
            (1.0, "flood", FloodReport(self.store, self.flood)),
        )
        self._tend(WORKER).forever(self.worker.run)
        self._tend("outbox").forever(self.drain)
        self._tend("incidents").forever(self.incidents.run)
        self._tend("warm").once(self.warm)
        for seconds, name, work in turns:
            self._tend(name).every(seconds * self.pace, work)
        self._tend("policies").every(reload, Reloading(self.policies), look)
        if self.exchange is not None:
            self._tend(REDIS).forever(self.exchange.run)
        self._started = True

    def _tend(self, name: str) -> Task:
        task = Task(name, self.loud)
        self._tasks.append(task)
        return task

    def rest(self) -> None:
        """Begin nothing new; alerts are still taken, and what is under way goes on."""
        self._started = False
        self.hub.close()  # else who looks on would keep the server waiting
        self.worker.rest()

    async def stop(self) -> None:
        """Finish what is under way or hand it over, seal, and close."""
        self.rest()
        await self.worker.stop(self.settings.engine.shutdown_grace / 1000)
        await ended(self._tasks)
        try:
            await self.store.seal()
        except StoreError as error:  # what is not sealed now is sealed by the next process
            log.warning("audit.not_sealed", error=str(error))
        finally:
            if self.exchange is not None:
                await self.exchange.close()
            await self.store.close()
            self.close()

    async def broken(self) -> str:
        """Return, with the reason, when this process can no longer do its work and must start anew."""
        while True:
            if self.store.fatal is not None:
                return str(self.store.fatal)
            for task in self._tasks:
                if task.hopeless(self.patience):
                    return task.fault
            await asyncio.sleep(beat(0.5) - asyncio.get_running_loop().time())

    def wake(self, within: float = 0) -> None:
        """A run may be due within so many seconds."""
        self.worker.wake(within)

    @property
    def claimant(self) -> Claimant:
        """Who begins at once with what a delivery opens."""
        return self.worker

    def take(self, runs: Sequence[Run]) -> None:
        """Begin with what was claimed along with a delivery."""
        self.worker.take(runs)

    def ready(self) -> tuple[bool, str]:
        """Whether it takes alerts and acts on them, and if not, why; and what else of it fails, by lines."""
        if not self._started:
            return False, "starting or stopping"
        if not self.policies.usable:
            return False, f"the active policies are not loaded: {self.policies.fault}"
        if self.store.fatal is not None:
            return False, str(self.store.fatal)
        if self.store.unwritable is not None:
            return False, f"the store cannot be written: {self.store.unwritable}"
        faults = [task for task in self._tasks if task.fault]
        if vital := [task.fault for task in faults if task.vital]:
            return False, "; ".join(vital)
        return True, "\n".join(("ready", *(task.fault for task in faults)))

    async def start_run(
        self,
        policy: str,
        labels: Mapping[str, str],
        reason: str,
        actor: str,
        key: str = "",
        anyway: bool = False,
    ) -> Run:
        """Run a policy by hand, through all the same guards.

        Args, Raises: as `manual.Wish` and `manual.start`.
        """
        try:
            return await manual.start(
                self.store,
                self.policies,
                self.catalogue,
                Wish(policy, labels, reason, actor, key, anyway),
                self.nonce,
            )
        finally:
            self.wake()  # also where the answer was lost

    async def cancel_run(self, id: RunId, reason: str, actor: str) -> Run:
        """End a run that has not acted.

        Raises:
            NotFound, Conflict: there is none, or it has ended, or acts.
        """
        event = AuditEvent(kind="run.cancelled", actor=actor, run=id, data={"reason": reason})
        run = await self.store.cancel(id, event)
        metrics.ended(run.policy, Outcome.CANCELLED, run.reason)
        return run

    async def decide(
        self,
        run: RunId,
        decision: Decision,
        comment: str,
        actor: str,
        role: Role,
        approval: int | None = None,
    ) -> Approval:
        """Approve or reject what a run asks.

        Args:
            actor, role: who decides.
            approval: the question that was read; None: whichever is open.

        Raises:
            NotAllowed: the role does not suffice, or four eyes are wanted.
            NotFound: no such run, or it has never asked.
            Conflict: another was asked meanwhile, or it is decided, expired or withdrawn.
        """
        found = await self.store.approvals(run=run, limit=1)
        if not found:
            known = await self.store.run(run)
            raise NotFound(
                f"run {known.id} asks nobody: it is {known.outcome or known.state}, in mode {known.mode}"
            )
        asked = found[0]
        if approval is not None and approval != asked.id:
            asked = await self._asked(run, approval, asked)
        refuse(self.settings.approvals, asked, actor, role, decision)
        event = AuditEvent(
            kind=f"approval.{decision}", actor=actor, observed=comment, data={"role": role.value}
        )
        decided = await self.store.decide(asked.id, decision, event)
        self.wake()
        return decided

    async def _asked(self, run: RunId, approval: int, latest: Approval) -> Approval:
        """The question that was read, if it is this run's; a newer one was not read."""
        asked = await self.store.approval(approval)
        if asked.run != run:
            raise NotFound(f"approval {approval} is not one of run {run}, but of run {asked.run}")
        if latest.open:
            raise Conflict(
                f"approval {approval} of run {run} was {asked.decision or 'replaced'}; "
                f"since then approval {latest.id} is asked, look at that one"
            )
        return asked

    async def pause(self, scope: str, reason: str, actor: str, until: Instant | None) -> Control:
        """Stop new actions: of the daemon (""), `policy:NAME` or `target:NAME`; returns the pause that
        stands: an earlier one that lasts longer is not cut short."""
        now = await self.store.now()
        control = Control(
            kind=ControlKind.PAUSE, scope=scope, reason=reason, actor=actor, since=now, until=until
        )
        data = {"scope": scope, "reason": reason, "until": until}
        event = AuditEvent(kind="control.paused", actor=actor, data=data)
        return await self.store.set_control(control, event)

    async def resume(self, scope: str, reason: str, actor: str) -> bool:
        """Lift a pause; False if there was none."""
        data = {"scope": scope, "reason": reason}
        event = AuditEvent(kind="control.resumed", actor=actor, data=data)
        lifted = await self.store.clear_control(ControlKind.PAUSE, scope, event)
        self.wake()
        return lifted

    async def restore(self, policy: str, reason: str, actor: str) -> bool:
        """Close a policy's breaker: it has its own mode again, and what came before counts no more. False
        if it was not open."""
        scope = f"policy:{policy}"
        data = {"scope": scope, "reason": reason}
        event = AuditEvent(kind="policy.restored", actor=actor, policy=policy, data=data)
        restored = await self.store.clear_control(ControlKind.BREAKER, scope, event)
        self.wake()
        return restored

    async def clear_target(self, target: str, reason: str, actor: str) -> bool:
        """Lift the quarantine of a target, by its key or by its name, and free its lock: a person has
        looked and knows what state it is in. False if it is not quarantined."""
        for control in await self.store.controls():
            names = (control.scope.removeprefix("target:"), control.data.get("target"))
            if control.kind is not ControlKind.QUARANTINE or target not in names:
                continue
            data = {"scope": control.scope, "reason": reason, "was": control.reason}
            name = control.data.get("target", target)
            event = AuditEvent(kind="target.cleared", actor=actor, target=name, data=data)
            cleared = await self.store.clear_control(ControlKind.QUARANTINE, control.scope, event)
            self.wake()
            return cleared
        return False

    async def renew_effect(self, id: int, longer: Millis, reason: str, actor: str) -> Effect:
        """Let a lease end `longer` milliseconds from now; raises as `lease.renew` does."""
        return await lease.renew(self.store, self.policies.revision, id, longer, reason, actor)

    async def return_effect(self, id: int, reason: str, actor: str) -> Run:
        """Return a lease now, by a run of its own; raises as `lease.recall` does."""
        run = await lease.recall(self.store, id, reason, actor)
        self.wake()
        return run

    async def acknowledge(self, id: IncidentId, comment: str, actor: str) -> Incident:
        """A person has it: nobody further is called.

        Raises:
            NotFound, Conflict: there is none, or it is resolved, or somebody has it already.
        """
        return await self.incidents.acknowledge(id, actor, comment)

    async def resolve_incident(self, id: IncidentId, comment: str, actor: str) -> Incident:
        """A person says that it is over.

        Raises:
            NotFound, Conflict: there is none, or it is resolved already.
        """
        return await self.incidents.resolve(id, actor, comment)

    async def explain(self, id: AlertId, policy: str | None = None) -> Explanation:
        """Why something did or did not happen about an alert."""
        return await explain(self.store, self.policies.revision, id, policy=policy)
