"""The world outside: groups with a size, a version and a level; and the wire on which calls travel.

A call takes time: it is sent, takes effect later, and is answered later still, or not. What an action asks
for here is therefore a `Deferred`, which the wire carries out at its time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from remediator.contracts import (
    Action,
    Check,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.engine.threads import Late
from remediator.errors import Ambiguous, Permanent, Refused, Temporary
from remediator.model import (
    SECOND,
    Blast,
    Episode,
    Instant,
    Landed,
    Millis,
    Plan,
    Reading,
    Reason,
    Risk,
    Sample,
    Target,
)
from tests.simulation.loop import HOST, Host
from tests.simulation.policies import KEYS, MOST

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

T = TypeVar("T")
LANDING = 20.0
"""Seconds, declared by every action here."""
VALID = 600.0
"""Seconds for which a token deduplicates."""


class Deferred(BaseException):
    """What an action or check asks of the provider: carried out later, by the wire."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__("deferred")
        self.work = work


@dataclass
class Group:
    size: int
    version: int = 1
    generation: int = 0
    level: str = "high"
    cure: int = 1
    """how many changes make it healthy; 0: none does"""
    changes: int = 0
    flips: int = 0
    busy_until: float = 0.0
    broken: bool = False


@dataclass
class Call:
    """One mutation that left a process.

    pending: the effects that it will still have. over: nothing of it can happen any more.
    """

    token: str
    action: str
    key: str
    before: dict[str, Any]
    after: dict[str, Any]
    host: Host
    sent_at: float
    pending: int = 0
    applied: int = 0
    fate: str = ""
    amount: float = 0.0
    forgiven: bool = False


@dataclass
class Provider:
    """What is out there, with a record of all that was asked of it."""

    simulation: Simulation
    groups: dict[str, Group] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)
    """token → when it was first carried out"""
    readings: list[tuple[float, str, int, str, str]] = field(default_factory=list)
    """(time, policy, episode, host, kind): kind is good, bad or nothing"""

    def carry_out(self, call: Call, dedupe: bool, version: str | None) -> dict[str, Any]:
        """The change itself."""
        group = self.groups[call.key]
        now = self.simulation.loop.time()
        if dedupe and now - self.tokens.get(call.token, -math.inf) < VALID:
            return {"deduplicated": True}
        if version is not None and version != str(group.version):
            raise Refused(Reason.CHANGED_BY_PERSON, f"version {group.version}", str(group.version), version)
        (name, wanted), (_, before) = next(iter(call.after.items())), next(iter(call.before.items()))
        if getattr(group, name) != before:
            raise Refused(
                Reason.CHANGED_BY_PERSON,
                f"{name} is {getattr(group, name)}",
                str(getattr(group, name)),
                str(before),
            )
        setattr(group, name, wanted)
        group.version += 1
        group.changes += 1
        if group.cure and group.changes >= group.cure and group.level == "high":
            group.level = "low"
        group.busy_until = now + self.simulation.draw("settle") * 3
        if call.fate == "unsettled":
            group.busy_until += 20 + call.amount * 60
        group.broken = call.fate == "settle-fails"
        call.applied += 1
        self.tokens.setdefault(call.token, now)
        self.simulation.oracle.effect(call)
        return {name: wanted}

    def level(self, group: Group) -> tuple[str, tuple[Sample, ...]]:
        at = self.simulation.now()
        match group.level:
            case "none":
                return "nothing", ()
            case "nan":
                return "nothing", (Sample(at=at, value=math.nan),)
            case "stale":
                return "nothing", (Sample(at=Instant(at - 400 * SECOND), value=1.0),)
            case "flip":
                group.flips += 1
                low = group.flips % 2 == 0
            case what:
                low = what == "low"
        return ("good", (Sample(at=at, value=10.0),)) if low else ("bad", (Sample(at=at, value=120.0),))


# ---------------------------------------------------------------- the wire


class Wire:
    """Takes the place of `engine.threads.Threads` in one process: the same contract, on virtual time.

    A thread of a process that is killed or frozen does not send what it has not sent yet; what has been sent
    is the provider's.
    """

    def __init__(self, simulation: Simulation, most: int = 64) -> None:
        self._simulation = simulation
        self._most = most
        self._under_way = 0

    async def call(self, work: Callable[[], T], timeout: float, late: Late | None = None) -> T:
        if self._under_way >= self._most:
            raise Temporary(f"{self._most} calls are under way or hang: not started")
        self._under_way += 1
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def deliver(value: Any, error: BaseException | None) -> None:
            self._under_way -= 1
            if done.cancelled():
                if late is not None:
                    late(value, error)
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)

        trip = _Trip(self._simulation, HOST.get(), work, late is not None, deliver)
        loop.call_later(self._simulation.draw("thread") * 0.01, trip.begin)
        async with asyncio.timeout(timeout):
            return await done


class _Trip:
    """One call's way to the provider and back."""

    def __init__(
        self, simulation: Simulation, host: Host, work: Callable[[], Any], changes: bool, deliver: Any
    ) -> None:
        self._simulation = simulation
        self._host = host
        self._work = work
        self._changes = changes
        self._deliver = deliver

    def begin(self) -> None:
        """In the process: what is checked before the first byte is checked here."""
        simulation = self._simulation
        try:
            value = self._work()
        except Deferred as deferred:
            self._ask = deferred.work
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            self._deliver(None, error)
            return
        else:
            self._deliver(value, None)
            return
        travel = 0.002 + simulation.draw("wire") * 0.05
        if not self._changes:
            self._read(travel)
            return
        for _ in range(2 if simulation.sabotage == "worker-calls-twice" else 1):
            call: Call = self._ask.call  # type: ignore[attr-defined]
            call.host, call.sent_at = self._host, simulation.loop.time()
            fault = simulation.fault("apply")
            call.fate, call.amount = (fault.what, fault.amount) if fault is not None else ("", 0.0)
            simulation.provider.calls.append(call)
            simulation.oracle.sent(call)
            self._change(call, travel)

    # ------------------------------------------------------------ changes

    def _change(self, call: Call, travel: float) -> None:
        amount, answer = call.amount, self._answer
        lost = Ambiguous("connection reset")
        match call.fate:
            case "throttle":
                answer(travel * 2, None, Temporary("throttled: rate exceeded"))
            case "deny":
                answer(travel * 2, None, Permanent("access denied"))
            case "bug-before":
                answer(travel, None, KeyError("desired"))
            case "lost-before":
                answer(travel + amount * 10, None, lost)
            case "lost-after":
                self._effect(call, travel, lambda _v, _e: answer(travel, None, lost))
            case "bug-after":
                self._effect(call, travel, lambda _v, e: answer(travel, None, e or KeyError("desired")))
            case "late":
                answer(travel, None, lost)
                self._effect(call, amount * LANDING, None)
            case "hang":
                self._effect(call, amount * LANDING, lambda v, e: answer(30 + amount * 60, v, e))
            case "twice":
                self._effect(call, travel, lambda v, e: answer(travel, v, e))
                self._effect(call, travel + amount * (LANDING - 1), None)
                call.pending -= 1  # the network's own second: no action of ours
            case "slow":
                self._effect(call, travel + amount * 10, lambda v, e: answer(amount * 10, v, e))
            case _:
                self._effect(call, travel, lambda v, e: answer(travel, v, e))

    def _effect(self, call: Call, delay: float, then: Callable[[Any, Any], None] | None) -> None:
        call.pending += 1

        def happen() -> None:
            value, error = None, None
            try:
                value = self._ask()
            except Exception as raised:  # noqa: BLE001 - the provider's own answer
                error = raised
            call.pending = max(0, call.pending - 1)
            if then is not None:
                then(value, error)

        simulation = self._simulation
        simulation.loop.call_later(delay, happen, context=simulation.loop.outside.context)

    # ------------------------------------------------------------ reads

    def _read(self, travel: float) -> None:
        simulation = self._simulation
        fault = simulation.fault("read")
        what, amount = (fault.what, fault.amount) if fault is not None else ("", 0.0)
        answer = self._answer

        def happen() -> None:
            value, error = None, None
            note = getattr(self._ask, "note", None)
            try:
                value = self._ask()
            except Exception as raised:  # noqa: BLE001 - the provider's own answer
                error = raised
            kind = "nothing"
            if note is not None and value is not None:
                kind, value = self._distort(what, *value)
            match what:
                case "temporary":
                    kind, value, error = "nothing", None, Temporary("not now")
                case "permanent" if note is not None:
                    kind, value, error = "nothing", None, Permanent("no")
                case "bug":
                    kind, value, error = "nothing", None, KeyError("value")
            delay = travel
            if what == "hang":
                kind, delay = "nothing", 25 + amount * 20
            elif what == "slow":
                delay = amount * 8
            if note is not None:
                simulation.provider.readings.append((simulation.loop.time(), *note, self._host.name, kind))
            answer(delay, value, error)

        simulation.loop.call_later(travel, happen, context=simulation.loop.outside.context)

    def _distort(self, what: str, kind: str, samples: tuple[Sample, ...]) -> tuple[str, Reading]:
        at = self._simulation.now()
        match what:
            case "nan":
                kind, samples = "nothing", (Sample(at=at, value=math.nan),)
            case "none":
                kind, samples = "nothing", ()
            case "stale":
                kind, samples = "nothing", (Sample(at=Instant(at - 400 * SECOND), value=1.0),)
            case "lie-high":
                kind, samples = "bad", (Sample(at=at, value=120.0),)
            case "lie-low":
                kind, samples = "good", (Sample(at=at, value=10.0),)
        if self._simulation.sabotage == "no-data-is-health" and kind == "nothing":
            samples = (Sample(at=at, value=1.0),)
        return kind, Reading(samples=samples)

    def _answer(self, delay: float, value: Any, error: BaseException | None) -> None:
        simulation = self._simulation
        simulation.loop.call_later(delay, self._deliver, value, error, context=self._host.context)


# ---------------------------------------------------------------- what policies name


class GroupParams(Params):
    group: Annotated[str, Selector("[a-z0-9-]{1,40}")]


class ResizeParams(GroupParams):
    add: int = Field(ge=1, le=20)
    max: int = Field(le=100)
    by: int = Field(default=0, ge=0, le=20)


class _OfGroup(Action[Any]):
    """What all actions here share."""

    settle_time = Millis(60 * SECOND)
    landing_time = Millis(int(LANDING * 1000))
    permissions = (Permission("sim", "sim:Change", "to change"),)
    blast_unit = "members"
    dedupe = False

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def target_name(self, params: GroupParams) -> str:
        return f"sim:{params.group}"

    def observe(self, context: Context, params: GroupParams) -> Observed:
        def work() -> Observed:
            key = KEYS.get(params.group)
            if key is None:
                raise Permanent(f"no group {params.group!r}")
            group = self.provider.groups[key]
            target = Target(name=f"sim:{params.group}", key=key)
            fields = {name: getattr(group, name) for name in self.fields}
            return Observed(target=target, fields=fields, version=str(group.version))

        raise Deferred(work)

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        call = Call(token, self.name, plan.target.key, plan.before, plan.after, HOST.get(), 0.0)
        version = plan.version if self.idempotency.kind == "conditional" else None

        def work() -> dict[str, Any]:
            return self.provider.carry_out(call, self.dedupe, version)

        work.call = call  # type: ignore[attr-defined]
        raise Deferred(work)

    def settled(self, context: Context, plan: Plan) -> Settled:
        def work() -> Settled:
            group = self.provider.groups[plan.target.key]
            if group.broken:
                group.broken = False
                return Settled(done=False, failed="it broke")
            return Settled(done=self.provider.simulation.loop.time() >= group.busy_until)

        raise Deferred(work)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        (name, after), (_, before) = next(iter(plan.after.items())), next(iter(plan.before.items()))
        seen = observed.fields[name]
        if seen == after:
            return Landed.APPLIED
        return Landed.NOT_APPLIED if seen == before else Landed.UNCLEAR


class Resize(_OfGroup):
    """Adds to a group."""

    name = "sim.resize"
    summary = "Add to a group"
    params = ResizeParams
    risk = Risk.REVERSIBLE
    idempotency = Idempotency("probe")
    fields = ("size",)
    example = {"action": "sim.resize", "with": {"group": "a", "add": 2, "max": 10}}

    def plan(self, observed: Observed, params: ResizeParams, done: Sequence[Plan]) -> Plan | Nothing:
        size = observed.fields["size"]
        goal = min((done[0].before["size"] if done else size) + params.add, params.max)
        if self.provider.simulation.sabotage == "unbounded-plan":
            goal = size + 9
        if size >= goal:
            return Nothing(why=f"{size} already")
        after = min(goal, size + params.by) if params.by else goal
        return Plan(
            action=self.name,
            target=observed.target,
            before={"size": size},
            after={"size": after},
            blast=Blast(amount=after - size, whole=MOST, unit="members"),
            params=params.model_dump(),
            version=observed.version,
            more=after < goal,
        )

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        size = observed.fields["size"]
        if size == plan.before["size"]:
            return Nothing(why="already back")
        if size != plan.after["size"]:
            raise Refused(Reason.CHANGED_BY_PERSON, f"size is {size}", str(size), str(plan.after["size"]))
        return Plan(
            action=self.name,
            target=plan.target,
            before={"size": size},
            after={"size": plan.before["size"]},
            blast=plan.blast,
            params=plan.params,
            version=observed.version,
        )


class ResizeByToken(Resize):
    """At a provider that deduplicates by token."""

    name = "sim.resize_by_token"
    idempotency = Idempotency("token", valid=Millis(int(VALID * 1000)))
    dedupe = True


class ResizeIf(Resize):
    """At a provider that takes the version on which a change is based."""

    name = "sim.resize_if"
    idempotency = Idempotency("conditional")


class Restart(_OfGroup):
    """Cannot be undone, and nothing keeps a second call from acting."""

    name = "sim.restart"
    summary = "Restart a group"
    params = GroupParams
    risk = Risk.DISRUPTIVE
    irreversible = "a restart cannot be taken back"
    idempotency = Idempotency("none")
    fields = ("generation",)
    example = {"action": "sim.restart", "with": {"group": "a"}}

    def plan(self, observed: Observed, params: GroupParams, done: Sequence[Plan]) -> Plan | Nothing:
        generation = observed.fields["generation"]
        return Plan(
            action=self.name,
            target=observed.target,
            before={"generation": generation},
            after={"generation": generation + 1},
            blast=Blast(amount=1, whole=MOST, unit="members"),
            params=params.model_dump(),
            version=observed.version,
        )


class LevelParams(Params):
    group: Annotated[str, Selector("[a-z0-9-]{1,40}")] = "a"
    by: str = ""


class Level(Check[LevelParams]):
    """How full a group is."""

    name = "sim.level"
    summary = "A level"
    params = LevelParams
    unit = ""
    permissions = (Permission("sim", "sim:Read", "to read"),)
    example = {"check": "sim.level", "with": {"group": "a"}, "is": "> 50"}

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def read(self, context: Context, params: LevelParams) -> Reading:
        def work() -> Any:
            return self.provider.level(self.provider.groups[KEYS[params.group]])

        episode = context.episode
        work.note = (params.by, episode.id if episode is not None else 0)  # type: ignore[attr-defined]
        raise Deferred(work)


class Known:
    """The catalogue."""

    def __init__(self, provider: Provider) -> None:
        actions = (Resize(provider), ResizeByToken(provider), ResizeIf(provider), Restart(provider))
        self._actions: dict[str, Action[Any]] = {action.name: action for action in actions}
        self._checks: dict[str, Check[Any]] = {"sim.level": Level(provider)}

    def action(self, name: str) -> Action[Any] | None:
        return self._actions.get(name)

    def check(self, name: str) -> Check[Any] | None:
        return self._checks.get(name)

    def actions(self) -> Sequence[Action[Any]]:
        return tuple(self._actions.values())

    def checks(self) -> Sequence[Check[Any]]:
        return tuple(self._checks.values())


@dataclass(frozen=True)
class Given:
    """The context of a call: this world needs no connections."""

    now: Instant
    episode: Episode | None

    def client(self, kind: type[Any], connection: str) -> Any:
        raise Refused(Reason.UNKNOWN_CONNECTION, f"no connection {connection!r} here")
