"""Runs one scenario: store, replicas, provider, senders and people on one virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog

from remediator.engine.manual import Manual
from remediator.errors import ConfigurationError, Conflict, NotFound, StoreError, StoreUnavailable
from remediator.model import MANUAL, Alert, AuditEvent, Control, ControlKind, Decision, Instant, Status
from remediator.policy.cache import Cache
from remediator.policy.set import PolicySet, compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.settings import Role
from remediator.store import claims, open_store
from tests.simulation.catalogue import Known
from tests.simulation.link import READS, suspended
from tests.simulation.loop import Host, SimulatedLoop, Stuck
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.policies import Rules
from tests.simulation.provider import Group, Provider
from tests.simulation.replica import PACE, Replica, Told
from tests.simulation.sabotage import SABOTAGE
from tests.simulation.scenario import NAMES, Event, Fault, Scenario

START = 1_800_000_000_000
QUIET = 1500.0
"""Seconds after the last fault within which everything must have come to its end."""
_played = 0
_compiled: dict[str, PolicySet | str] = {}
_cache = Cache()


@dataclass
class Result:
    """What came of a scenario."""

    scenario: Scenario
    violation: Violation | None
    trace: str
    seconds: float
    """of virtual time"""
    steps: int
    seen: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)


class Simulation:
    """One history under way."""

    def __init__(self, scenario: Scenario, verbose: bool = False) -> None:
        self.scenario = scenario
        self.sabotage = scenario.sabotage
        self.rules = scenario.rules
        self.loop = SimulatedLoop(Random(f"schedule/{scenario.seed}"))
        self._random: dict[str, Random] = {}
        self._faults = {(fault.where, fault.nth): fault for fault in scenario.faults}
        self._passes: Counter[str] = Counter()
        self._nonces = 0
        self.offset = 0
        self.calm = False
        self.jumped = 0
        self._jumped_at = -1000.0
        self.seen: Counter[str] = Counter()
        self.log: list[str] | None = [] if verbose else None
        self._trace = hashlib.blake2b(digest_size=12)
        self.sets: dict[str, Rules] = {}
        self.provider = Provider(
            self, {key: Group(size) for key, size in (("sim/a", 3), ("sim/b", 1), ("sim/c", 8))}
        )
        self.known = Known(self.provider)
        self.store = open_store("sqlite://", self, receivers={"told": Told(), MANUAL: Manual()})
        self.oracle = Oracle(self)
        self.links: list[Any] = []
        self.replicas: list[Replica] = []
        self.execute_options: dict[str, Any] = {"passed": self.loop.time}
        self._since: dict[tuple[str, str, str], int] = {}
        self._triggers: list[tuple[str, int, str | Event, float]] = []

    # ------------------------------------------------------------ what the parts ask for

    def now(self) -> Instant:
        """The database's clock. (A contracts.Clock.)"""
        return Instant(START + self.offset + round(self.loop.time() * 1000))

    def draw(self, stream: str) -> float:
        """A number from 0 to 1; each stream has its own, so that one does not disturb the others."""
        random = self._random.get(stream)
        if random is None:
            random = self._random[stream] = Random(f"{stream}/{self.scenario.seed}")
        return random.random()

    def fault(self, *kinds: str) -> Fault | None:
        """What befalls this call: the fault for the n-th call of one of its kinds."""
        found: Fault | None = None
        for kind in kinds:
            nth = self._passes[kind]
            self._passes[kind] = nth + 1
            found = found or self._faults.get((kind, nth))
        if found is None or self.calm:
            return None
        self.count(f"fault:{found.where}:{found.what}")
        return found

    def nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:016x}{self.scenario.seed:016x}"

    def digest(self, body: bytes) -> int:
        return zlib.crc32(body)

    def count(self, what: str) -> None:
        self.seen[what] += 1

    def after(self, seconds: float, work: Callable[..., Any], *args: Any) -> None:
        self.loop.call_later(seconds, work, *args, context=self.loop.outside.context)

    def compile(self, files: Mapping[str, str]) -> PolicySet:
        """Texts → set. Kept across simulations: it is pure, and takes longer than all else."""
        if self.sabotage == "no-window":
            files = {name: text for name, text in files.items() if name != "windows.yaml"}
        key = repr(sorted(files.items()))
        found = _compiled.get(key)
        if found is None:
            words = Vocabulary(
                catalogue=Known(None),  # type: ignore[arg-type]
                connections={},
                senders=frozenset({"am"}),
                notifiers=frozenset({"primary", "secondary"}),
            )
            try:
                found = compile_set(files, words, cache=_cache)
            except ConfigurationError as error:
                found = str(error)
            _compiled[key] = found
        if isinstance(found, str):
            raise ConfigurationError(found)
        return found

    def say(self, text: str) -> None:
        """One line of the trace."""
        line = f"{self.loop.time():10.3f} {text}"
        self._trace.update(line.encode())
        if self.log is not None:
            self.log.append(line)

    # ------------------------------------------------------------ the store

    def serve(self, host: Host, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """One request, at one instant, and then everything is asked that must hold."""
        broken = SABOTAGE.get(self.sabotage)
        if broken is not None and name in broken.methods:
            value, error = broken.methods[name](self, args, options)
        else:
            value, error = suspended(getattr(self.store, name)(*args, **options))
        if name not in READS:
            self.oracle.step(host, name, args, value, error)
        if self._triggers:
            self._trigger(name, host)
        return value, error

    def reclaim(self) -> None:
        """A process that owns its store proves all earlier ones dead by its lock on the file."""
        tx = self.store._tx  # type: ignore[attr-defined]
        tx.now = self.now()
        claims.reclaim(tx)
        if tx.connection.in_transaction:
            tx.connection.execute("COMMIT")
        self.oracle.look("reclaim")

    def _trigger(self, name: str, host: Host) -> None:
        """A process that dies or freezes at the very moment after something was written or sent."""
        for number, (where, nth, kind, seconds) in enumerate(self._triggers):
            method, _, state = where.partition("@")
            if method != name or (state and not self.oracle.worked_on(state)):
                continue
            if nth > 0:
                self._triggers[number] = (where, nth - 1, kind, seconds)
                continue
            del self._triggers[number]
            if not isinstance(kind, str):
                self._happens(kind)
                return
            for replica in self.replicas:
                if replica.host is host and not host.dead:
                    self.say(f"{kind} {host.name} for {seconds:g}s after {name}")
                    self.count(kind)
                    (replica.kill if kind == "kill-at" else replica.freeze)(seconds)
            return

    # ------------------------------------------------------------ the history

    async def _history(self) -> None:
        scenario = self.scenario
        self.store.hints(self._hint)
        await self.store.open()
        self.oracle.open(self.store._tx.connection)  # type: ignore[attr-defined]
        self.compile(self.rules.files)
        self.register(self.rules)
        for name in NAMES[: scenario.replicas]:
            self.replicas.append(Replica(self, name))
        for event in scenario.events:
            wait = event.at - self.loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            self._happens(event)
        if scenario.span > self.loop.time():
            await asyncio.sleep(scenario.span - self.loop.time())
        await self._afterwards()

    def _hint(self, hint: Any) -> None:
        self.links = [link for link in self.links if not link._host.dead]
        for link in self.links:
            link.hint(hint)

    def register(self, rules: Rules) -> None:
        with contextlib.suppress(ConfigurationError):
            self.sets[self.compile(rules.files).hash] = rules

    async def _afterwards(self) -> None:
        """Nothing goes wrong any more; people look after what waits for them."""
        self.calm = True
        self._triggers.clear()
        self.say("calm")
        for replica in self.replicas:
            replica.host.frozen = False
            replica.files = dict(self.rules.files)
        for group in self.provider.groups.values():
            if group.level not in ("high", "low"):
                group.level = "low"
        began = self.loop.time()
        while self.loop.time() - began < QUIET + abs(self.jumped):
            await asyncio.sleep(15)
            for key in list(self._since):  # once is enough: it is sent again until it is answered
                self._deliver(key, Status.RESOLVED)
                del self._since[key]
            if self.oracle.controls:
                self._person(self._tidy)
            if self.loop.time() - began > 50 and self.oracle.at_rest():
                break
        self.oracle.finish()

    async def _tidy(self, replica: Replica) -> None:
        daemon = replica.daemon
        assert daemon is not None
        await self._restore(replica)
        for control in await daemon.store.controls():
            if control.kind is ControlKind.PAUSE:
                await daemon.resume(control.scope, "looked", "alice")
            if control.kind is ControlKind.QUARANTINE:
                await daemon.clear_target(control.scope.removeprefix("target:"), "looked", "alice")

    # ------------------------------------------------------------ what happens

    def _happens(self, event: Event) -> None:
        self.say(f"* {event.kind} {event.args}")
        self.count(event.kind)
        args = event.args
        match event.kind:
            case "fire":
                self._since.setdefault(args, round(self.loop.time() * 1000))
                self._deliver(args, Status.FIRING)
            case "resolve":
                self._deliver(args, Status.RESOLVED)
                self._since.pop(args, None)
            case "late-firing":
                self._deliver(args, Status.FIRING)
            case "kill" | "freeze" | "stop":
                for replica in self.replicas:
                    if replica.name == args[0] and replica.host.running:
                        getattr(replica, event.kind)(args[1])
            case "kill-at" | "freeze-at":
                self._triggers.append((args[0], args[1], event.kind, args[2]))
            case "at":
                where, nth, kind, *rest = args
                self._triggers.append((where, nth, Event(event.at, kind, tuple(rest)), 0.0))
            case "brake":  # with no way to travel
                scope, seconds = args
                until = Instant(self.now() + seconds * 1000)
                brake = Control(
                    kind=ControlKind.PAUSE,
                    scope=scope,
                    reason="odd",
                    actor="alice",
                    since=self.now(),
                    until=until,
                )
                told = AuditEvent(kind="control.paused", actor="alice")
                self.serve(self.loop.outside, "set_control", (brake, told), {})
            case "clock" if self.loop.time() - self._jumped_at < 3 * PACE:
                """Two jumps between two looks of this slowed-down watch would be none to it."""
            case "clock":
                self._jumped_at = self.loop.time()
                self.offset += args[0] * 1000
                self.jumped += abs(args[0])
            case "level":
                self.provider.groups[f"sim/{args[0]}"].level = args[1]
            case "cure":
                self.provider.groups[f"sim/{args[0]}"].cure = args[1]
            case "resize":
                group = self.provider.groups[f"sim/{args[0]}"]
                group.size, group.version = args[1], group.version + 1
                self.oracle.resized(f"sim/{args[0]}")
            case "policies":
                self._policies(*args)
            case "pause":
                scope, seconds = args
                self._person(
                    lambda replica: replica.running.pause(
                        scope, "odd", "alice", Instant(self.now() + seconds * 1000) if seconds else None
                    )
                )
            case "resume":
                self._person(lambda replica: replica.running.resume(args[0], "fine", "alice"))
            case "clear":
                self._person(self._tidy_quarantine)
            case "decide":
                self._person(lambda replica: self._decide(replica, args[0]))
            case "acknowledge":
                self._person(self._acknowledge)
            case "restore":
                self._person(self._restore)
            case "cancel":
                self._person(lambda replica: self._cancel(replica, args[0]))
            case "wake":
                self._person(self._wake)
            case "start":
                self._person(
                    lambda replica: replica.running.start_run(args[0], {"group": args[1]}, "by hand", "alice")
                )

    def _policies(self, how: str, which: int) -> None:
        self.rules = self.scenario.rules.changed(how, which)
        self.register(self.rules)
        for number, replica in enumerate(self.replicas):
            files = dict(self.rules.files)
            self.after(
                self.draw("rollout") * 20 * number,
                lambda replica=replica, files=files: setattr(replica, "files", files),
            )

    def _person(self, what: Callable[[Replica], Any]) -> None:
        """Somebody does something through a replica that answers; what fails is tried no further."""
        up = [replica for replica in self.replicas if replica.up and replica.host.running]
        if not up:
            return
        replica = up[int(self.draw("person") * len(up))]

        async def do() -> None:
            with contextlib.suppress(StoreError, NotFound, Conflict):
                await what(replica)

        self.loop.spawn(replica.host, do(), "person")

    async def _tidy_quarantine(self, replica: Replica) -> None:
        assert replica.daemon is not None
        for control in await replica.daemon.store.controls():
            if control.kind is ControlKind.QUARANTINE:
                await replica.daemon.clear_target(control.scope.removeprefix("target:"), "looked", "alice")

    async def _cancel(self, replica: Replica, which: int) -> None:
        assert replica.daemon is not None
        runs = await replica.daemon.store.find_runs(open=True)
        if runs:
            await replica.daemon.cancel_run(runs[which % len(runs)].id, "not now", "alice")

    async def _decide(self, replica: Replica, decision: str) -> None:
        assert replica.daemon is not None
        for asked in await replica.daemon.store.approvals(open=True):
            await replica.daemon.decide(asked.run, Decision(decision), "seen", "bob", Role.ADMIN, asked.id)

    async def _acknowledge(self, replica: Replica) -> None:
        assert replica.daemon is not None
        for incident in await replica.daemon.store.find_incidents(open=True):
            await replica.daemon.incidents.acknowledge(incident.id, "alice", "on it")

    async def _restore(self, replica: Replica) -> None:
        assert replica.daemon is not None
        for control in await replica.daemon.store.controls():
            if control.kind is ControlKind.BREAKER:
                await replica.daemon.restore(control.scope.removeprefix("policy:"), "fixed", "alice")

    async def _wake(self, replica: Replica) -> None:
        assert replica.daemon is not None
        for run in await replica.daemon.store.find_runs(open=True):
            await replica.daemon.store.wake(run.id)

    # ------------------------------------------------------------ senders

    def _deliver(self, key: tuple[str, str, str], status: Status) -> None:
        name, group, pod = key
        since = self._since.get(key, round(self.loop.time() * 1000))
        alert = Alert(
            sender="am",
            fingerprint="/".join(key),
            status=status,
            labels={"alertname": name, "severity": "P2", "group": group, "pod": pod},
            annotations={},
            starts_at=Instant(START + since),
        )
        self._post(alert, 0)

    def _post(self, alert: Alert, tries: int) -> None:
        """As Alertmanager: to whichever replica answers, again until one says 2xx."""
        up = [replica for replica in self.replicas if replica.host.running]
        again = 1.0 + self.draw("sender") * 9
        if tries > 40:
            return
        if not up:
            self.after(again, self._post, alert, tries + 1)
            return
        replica = up[int(self.draw("sender") * len(up))]
        answered = False

        async def take() -> None:
            nonlocal answered
            with contextlib.suppress(StoreUnavailable):
                answered = await replica.take(alert)

        self.loop.spawn(replica.host, take(), "webhook")

        def look() -> None:
            if not answered:
                self.count("delivered again")
                self._post(alert, tries + 1)

        self.after(again, look)

    # ------------------------------------------------------------ running it

    def run(self) -> Result:
        """Play it to its end, or to the first violation."""
        loop = self.loop
        asyncio.set_event_loop(None)
        main = loop.spawn(loop.outside, self._history(), "history")
        main.add_done_callback(lambda _task: loop.stop())
        violation: Violation | None = None
        try:
            loop.run_forever()
            loop.check()
            violation = self.oracle.violation
            if violation is None and main.done() and main.exception() is not None:
                raise main.exception()  # type: ignore[misc]
            if violation is None and loop.faults:
                violation = Violation("the engine never breaks off", loop.faults[0])
        except Stuck as error:
            violation = Violation("liveness", str(error))
        finally:
            seconds = loop.time()
            if violation is not None:
                self.say(f"VIOLATION {violation.invariant}: {violation.text}")
            loop.end()
            self.store._let_go()  # type: ignore[attr-defined]
        return Result(
            self.scenario, violation, self._trace.hexdigest(), seconds, loop.steps, self.seen, self.log or []
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without log lines, which cost more than all else, and without collecting in between."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_dropped],
        wrapper_class=structlog.make_filtering_bound_logger(50),
        cache_logger_on_first_use=False,
    )
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**before)
        gc.unfreeze()
        gc.collect()
        if enabled:
            gc.enable()


def _dropped(_logger: Any, _name: str, _values: Any) -> Any:
    raise structlog.DropEvent


def play(scenario: Scenario, verbose: bool = False) -> Result:
    """Run a scenario. What it leaves behind are cycles, collected now and then."""
    global _played
    _played += 1
    if _played % 500 == 0:
        gc.unfreeze()  # loading policies freezes what there is
        gc.collect()
    return Simulation(scenario, verbose).run()
