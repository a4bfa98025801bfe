"""A small outside world behind real actions and checks, and a rig that drives the engine on a clock.

The world keeps state, records every call, and can be told to misbehave as providers do: to throttle,
refuse, hang, lose its answer before or after acting, or act late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec
from pydantic import Field

from remediator.catalogue import Catalogue
from remediator.clock import DrivenClock
from remediator.contracts import (
    Action,
    Admission,
    Check,
    Context,
    Delivery,
    Held,
    Idempotency,
    Move,
    Nothing,
    Observed,
    Params,
    Parsed,
    Permission,
    Receipt,
    Selector,
    Settled,
    Store,
)
from remediator.engine.case import Rules, Tools
from remediator.engine.execute import Execute
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.watch import Incidents
from remediator.engine.policies import Policies
from remediator.engine.threads import Threads
from remediator.engine.worker import Worker
from remediator.errors import Ambiguous, ConfigurationError, Permanent, Refused, StoreUnavailable, Temporary
from remediator.model import (
    MINUTE,
    SECOND,
    Alert,
    AuditEvent,
    AuditRecord,
    Episode,
    Instant,
    IntentOutcome,
    Message,
    Millis,
    Plan,
    Reading,
    Reason,
    Run,
    RunId,
    Sample,
    Status,
    Target,
)
from remediator.notify.audience import Routing
from remediator.policy.set import PolicySet, compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.store import open_store
from tests.fakes.sized import Sized

START = Instant(1_800_000_000_000)


@dataclass
class World:
    """Groups with a size, levels that are measured, and faults to come."""

    sizes: dict[str, int] = field(default_factory=lambda: {"gpu": 3})
    aliases: dict[str, str] = field(default_factory=dict)
    """further names under which policies reach a group"""
    levels: dict[str, float | None] = field(default_factory=lambda: {"queue": 120.0})
    unsettled: int = 0
    weights: dict[str, int] = field(default_factory=dict)
    """set for those groups alone whose action changes size and weight together"""
    faults: list[str] = field(default_factory=list)
    calls: list[tuple[str, int, str]] = field(default_factory=list)
    heals: dict[int, float] = field(default_factory=dict)
    """size → the level that follows from it"""
    hold: threading.Event = field(default_factory=threading.Event)
    calling: threading.Event = field(default_factory=threading.Event)
    """set once a call is under way"""
    silent: bool = False
    """checks do not answer until `hold` is set"""
    broken: bool = False
    """the catalogue itself breaks: a fault in the daemon"""

    def resize(self, group: str, before: int, after: int, token: str) -> None:
        self.calling.set()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "throttle":
            raise Temporary("throttled: rate exceeded")
        if fault == "slow-throttle":
            self.hold.wait(20)
            raise Temporary("throttled: rate exceeded")
        if fault == "deny":
            raise Permanent("access denied: world:Resize")
        if fault == "lost-before":
            raise Ambiguous("connection reset before an answer")
        if fault == "bug":
            raise KeyError("desired")
        if fault == "hang":
            self.hold.wait(20)
        if fault == "overtaken":  # by a call that was believed lost
            self.sizes[group] = after
        if self.sizes[group] != before:
            raise Refused(
                Reason.CHANGED_BY_PERSON,
                f"{group} is {self.sizes[group]}",
                str(self.sizes[group]),
                str(before),
            )
        self.calls.append((group, after, token))
        self.sizes[group] = after
        if after in self.heals:
            self.levels["queue"] = self.heals[after]
        if fault == "lost-after":
            raise Ambiguous("connection reset after sending")


class ResizeParams(Params):
    group: Annotated[str, Selector("[a-z0-9-]{1,40}")]
    add: int = Field(ge=1, le=20)
    max: int = Field(le=100)
    by: int = Field(default=0, ge=0, le=20)
    """0: at once; else in steps of this size"""


class Resize(Sized[ResizeParams]):
    """Adds to a group of the world."""

    name = "world.resize"
    summary = "Add to a group"
    params = ResizeParams
    idempotency = Idempotency("probe")
    landing_time = Millis(30 * SECOND)
    settle_time = Millis(5 * MINUTE)
    blast_unit = "members"
    permissions = (Permission("world", "world:Resize", "to resize"),)
    example = {"action": "world.resize", "with": {"group": "gpu", "add": 2, "max": 10}}

    def __init__(self, world: World) -> None:
        self.world = world

    def target_name(self, params: ResizeParams) -> str:
        return f"world:{params.group}"

    def observe(self, context: Context, params: ResizeParams) -> Observed:
        group = self.world.aliases.get(params.group, params.group)
        if group not in self.world.sizes:
            raise Permanent(f"no group {params.group!r}")
        target = Target(name=f"world:{params.group}", key=f"world/earth/{group}")
        return Observed(target=target, fields={"size": self.world.sizes[group]})

    def plan(self, observed: Observed, params: ResizeParams, done: Sequence[Plan]) -> Plan | Nothing:
        size = observed.fields["size"]
        goal = min((done[0].before["size"] if done else size) + params.add, params.max)
        if size >= goal:
            return Nothing(why=f"{size} already, at most {params.max}")
        after = min(goal, size + params.by) if params.by else goal
        return self.change(observed, after, params.max, params.model_dump(), more=after < goal)

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        group = plan.target.key.removeprefix("world/earth/")
        self.world.resize(group, plan.before["size"], plan.after["size"], token)
        return {"size": plan.after["size"]}

    def settled(self, context: Context, plan: Plan) -> Settled:
        if self.world.unsettled > 0:
            self.world.unsettled -= 1
            return Settled(done=False)
        return Settled(done=True)


class ResizeByToken(Resize):
    """The same, at a provider that deduplicates by token."""

    name = "world.resize_by_token"
    idempotency = Idempotency("token", valid=Millis(24 * 60 * MINUTE))

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        if any(call[2] == token for call in self.world.calls):
            return {"deduplicated": True}
        return super().apply(context, plan, token)


class ResizeIfSame(Resize):
    """The same, at a provider that refuses a call planned on another state than it finds."""

    name = "world.resize_if_same"
    idempotency = Idempotency("conditional")


class Reshape(Resize):
    """Changes two fields of a group in one call: its weight becomes ten times its size."""

    name = "world.reshape"
    fields = ("size", "weight")

    def observe(self, context: Context, params: ResizeParams) -> Observed:
        seen = super().observe(context, params)
        weight = self.world.weights.get(params.group, 10)
        return msgspec.structs.replace(seen, fields={**seen.fields, "weight": weight})

    def plan(self, observed: Observed, params: ResizeParams, done: Sequence[Plan]) -> Plan | Nothing:
        plan = super().plan(observed, params, done)
        if isinstance(plan, Nothing):
            return plan
        return msgspec.structs.replace(
            plan, before=observed.fields, after={**plan.after, "weight": plan.after["size"] * 10}
        )

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        answer = super().apply(context, plan, token)
        self.world.weights[plan.params["group"]] = plan.after["weight"]
        return answer

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        back = super().undo(observed, plan)
        if isinstance(back, Nothing):
            return back
        return msgspec.structs.replace(back, before=plan.after, after=plan.before)


class LevelParams(Params):
    of: Annotated[str, Selector("[a-z-]{1,40}")] = "queue"


class Level(Check[LevelParams]):
    """A level of the world; None is no data."""

    name = "world.level"
    summary = "A level"
    params = LevelParams
    unit = ""
    permissions = (Permission("world", "world:Read", "to read"),)
    example = {"check": "world.level", "with": {}, "is": "> 50"}

    def __init__(self, world: World) -> None:
        self.world = world

    def read(self, context: Context, params: LevelParams) -> Reading:
        if self.world.silent:
            self.world.hold.wait(20)
        value = self.world.levels[params.of]
        samples = () if value is None else (Sample(at=context.now, value=value),)
        return Reading(samples=samples)


class Known(Catalogue):
    """A catalogue of what the world offers."""

    def __init__(self, world: World) -> None:
        self._world = world
        resizing = (Resize(world), ResizeByToken(world), ResizeIfSame(world), Reshape(world))
        super().__init__(resizing, [Level(world)])
        self._actions: dict[str, Action[Any]] = dict(self._actions)  # an upgrade may take one away

    def action(self, name: str) -> Action[Any] | None:
        if self._world.broken:
            raise RuntimeError("the catalogue is broken")
        return super().action(name)


@dataclass(frozen=True)
class Given:
    """The context of a call: the world needs no connections."""

    now: Instant
    episode: Episode | None

    def client(self, kind: type[Any], connection: str) -> Any:
        raise Refused(Reason.UNKNOWN_CONNECTION, f"no connection {connection!r} in the world")


class Told:
    """Reads back what the rig delivered."""

    kind = "told"

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        raise NotImplementedError

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        return msgspec.json.decode(body, type=list[Alert])[position]


POLICY = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: world.resize
    with: {group: "${labels.group}", add: 2, max: 10}
"""


class LosesAnswers:
    """A store whose next ADMIT is committed, and whose answer is lost on the way back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.losing = False
        self.stop: Callable[[], None] = lambda: None
        """what befalls the process between ADMIT and the call"""
        self.before_admit: Callable[[], Awaitable[None]] | None = None
        """what happens elsewhere right before the next ADMIT"""
        self.before_reissue: Callable[[], Awaitable[None]] | None = None
        """what happens elsewhere right before a call is permitted again"""
        self.losing_outcome = False
        """the next outcome is written, and the answer to that is lost"""
        self.away = 0
        """how many times it takes no evidence, being away"""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def move(self, run: Run, move: Move) -> Run:
        meanwhile = self.before_reissue
        if meanwhile is not None and any(one.outcome is IntentOutcome.PENDING for one in move.intents):
            self.before_reissue = None
            await meanwhile()
        moved = await self._store.move(run, move)
        if self.losing_outcome and move.intents:
            self.losing_outcome = False
            raise StoreUnavailable("the store did not answer within 10s; try again")
        return moved

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        meanwhile, self.before_admit = self.before_admit, None
        if meanwhile is not None:
            await meanwhile()
        answer = await self._store.admit(run, admission)
        self.stop()
        if self.losing:
            self.losing = False
            raise StoreUnavailable("the store did not answer within 10s; try again")
        return answer

    async def evidence(self, run: RunId, number: int, events: Sequence[AuditEvent]) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("the store did not answer within 10s; try again")
        await self._store.evidence(run, number, events)


class Rig:
    """The engine on the real store and a driven clock.

    Args:
        policies: name → YAML text; a leading policy text may be given alone.
        start: where the clock stands first.
        apply_timeout: seconds of real time until a call counts as unknown.
        passed: seconds that have passed for the process.
    """

    def __init__(
        self,
        *policies: str,
        limits: str = "",
        world: World | None = None,
        url: str = "sqlite://",
        start: Instant = START,
        apply_timeout: float = 0.3,
        approvals: Rules | None = None,
        chains: bool = False,
        telling: Telling | None = None,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world or World()
        self.telling = telling or Telling(Routing(notifiers=("primary",)))
        self.clock = DrivenClock(start)
        self.known = Known(self.world)
        self.files = {f"{_name(text)}.yaml": text for text in (policies or (POLICY,))}
        if limits:
            self.files["limits.yaml"] = limits
        if chains:
            self.files["escalation.yaml"] = "chains: {on-call: [{after: 0m, notify: [primary]}]}\n"
        self.store: Store = open_store(url, self.clock, receivers={"told": Told()})
        self.policies = Policies(self.store, self.known, self.compile, None)
        execute = Execute(Given, Threads(), read_timeout=2.0, apply_timeout=apply_timeout, passed=passed)
        self.link = LosesAnswers(self.store)
        tools = Tools(cast(Store, self.link), self.known, execute, approvals or Rules())
        self.worker = Worker("rig", tools, self.policies)
        self.incidents = Incidents(self.store, self.policies, self.telling)

    def compile(self, files: Any) -> PolicySet:
        words = Vocabulary(
            catalogue=self.known,
            connections={},
            senders=frozenset({"am"}),
            notifiers=frozenset(self.telling.routing.notifiers),
        )
        return compile_set(files, words)

    async def __aenter__(self) -> Rig:
        await self.store.open()
        await self.load(self.files)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.world.hold.set()
        await self.worker.stop(1)
        await self.store.close()

    async def load(self, files: dict[str, str]) -> None:
        """Make this the active set, as a reload of a directory would."""
        await self.policies._propose(files)
        if self.policies._refused:
            raise ConfigurationError(self.policies._refused)

    async def fire(
        self, *, status: Status = Status.FIRING, since: Instant | None = None, **labels: str
    ) -> Receipt:
        """Deliver one alert, as a receiver would."""
        labels = {"alertname": "QueueHigh", "severity": "P2", "group": "gpu", **labels}
        alert = Alert(
            sender="am",
            fingerprint="-".join(f"{k}={v}" for k, v in sorted(labels.items())),
            status=status,
            labels=labels,
            annotations={},
            starts_at=since if since is not None else START,
        )
        body = msgspec.json.encode([alert])
        return await self.store.accept(
            Delivery(
                sender="am",
                kind="told",
                body=body,
                parsed=Parsed(alerts=((alert, hash(body) & 0xFFFFFFFF),)),
                revision=self.policies.hash,
                received_at=self.clock.now(),
            ),
            self.policies.match,
        )

    async def resolve(self, **labels: str) -> Receipt:
        return await self.fire(status=Status.RESOLVED, **labels)

    async def until(self, span: int) -> None:
        """Drive the clock to START + span milliseconds, stopping wherever something is due."""
        end = Instant(START + span)
        for _ in range(5000):
            await self.worker.drain()
            await self.incidents.once()
            times = (await self.store.next_due(), await self.store.next_incident_at())
            due = min((at for at in times if at is not None), default=None)
            if due is None or due > end:
                break
            self.clock.set(Instant(max(due, self.clock.now())))
        else:
            raise AssertionError("the engine never comes to rest")
        self.clock.set(max(end, self.clock.now()))
        await self.worker.drain()
        await self.incidents.once()

    async def runs(self) -> list[Run]:
        return list(reversed(await self.store.find_runs()))

    async def run(self) -> Run:
        (run,) = await self.runs()
        return run

    async def called(self) -> list[Message]:
        """What people are to be told of new incidents, and were not yet."""
        return [one for one in await self.said() if "DECLARED" in one.subject]

    async def said(self) -> list[Message]:
        """Everything that waits in the outbox, oldest first."""
        await self.incidents.once()
        return [one.message for one in await self.store.due_messages(1000)]

    async def story(self, run: RunId | None = None) -> list[str]:
        """The kinds of the audit events, oldest first."""
        return [record.event.kind for record in await self.events(run)]

    async def events(self, run: RunId | None = None) -> list[AuditRecord]:
        return list(await self.store.audit(run=run, oldest_first=True, limit=1000))


def _name(text: str) -> str:
    return next(line.removeprefix("name:").strip() for line in text.splitlines() if line.startswith("name:"))


def wait_until(condition: Any, seconds: float = 5.0) -> None:
    """Poll in real time; for what threads do."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.01)
