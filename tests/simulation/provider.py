"""The world outside: groups with a size, a version and a level; and the wire on which calls travel.

A call takes time: it is sent, takes effect later, and is answered later still, or not. What an action asks
for here is therefore a `Deferred`, which the wire carries out at its time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from remediator.engine.threads import Late
from remediator.errors import Ambiguous, Permanent, Refused, Temporary
from remediator.model import (
    SECOND,
    Instant,
    Reading,
    Reason,
    Sample,
)
from tests.simulation.loop import HOST, Host

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
        loop, simulation = asyncio.get_running_loop(), self._simulation
        done: asyncio.Future[T] = loop.create_future()

        def deliver(value: Any, error: BaseException | None) -> None:
            self._under_way -= 1
            if done.cancelled():
                if late is not None:
                    simulation.oracle.came_late(trip.call)
                    late(value, error)
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)

        trip = _Trip(simulation, HOST.get(), work, late is not None, deliver)
        loop.call_later(simulation.draw("thread") * 0.01, trip.begin)
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
        self.call: Call | None = None
        """the mutation, once it has left"""

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
            self.call = call = self._ask.call  # type: ignore[attr-defined]
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
