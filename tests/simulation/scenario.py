"""What happens in a simulation, drawn from its seed before it starts: policies, events, faults.

An event happens at a time, a fault befalls the n-th call of its kind. Each stands for itself, so that a
failing history can be shrunk by leaving some out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.simulation.policies import ALERTS, GROUPS, Rules, rules

NAMES = ("r1", "r2", "r3")


@dataclass(frozen=True)
class Event:
    """Something that happens at a time (seconds from the start)."""

    at: float
    kind: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:8.2f}s  {self.kind} {' '.join(map(str, self.args))}".rstrip()


@dataclass(frozen=True)
class Fault:
    """Something that befalls the n-th call (from 0) of a kind."""

    where: str
    nth: int
    what: str
    amount: float = 0.0

    def __str__(self) -> str:
        return f"  fault   {self.where} #{self.nth}: {self.what} {self.amount:g}"


@dataclass(frozen=True)
class Scenario:
    """One history.

    span: seconds until faults stop. alone: one process that owns its store (a restart frees every claim).
    """

    seed: int
    rules: Rules
    replicas: int
    alone: bool
    span: float
    events: tuple[Event, ...]
    faults: tuple[Fault, ...]
    sabotage: str = ""

    @property
    def items(self) -> tuple[Event | Fault, ...]:
        return (*self.events, *self.faults)

    def keeping(self, items: list[Event | Fault]) -> Scenario:
        """The same with only these, in the order in which they stand."""
        chosen = {id(item) for item in items}
        return replace(
            self,
            events=tuple(event for event in self.events if id(event) in chosen),
            faults=tuple(fault for fault in self.faults if id(fault) in chosen),
        )


APPLY = (
    "slow", "throttle", "deny", "lost-before", "lost-after", "late", "hang", "bug-before", "bug-after",
    "twice", "unsettled", "settle-fails",
)  # fmt: skip
READ = ("slow", "temporary", "permanent", "hang", "bug", "nan", "none", "stale", "lie-high", "lie-low")
STORE = ("before", "lost", "late", "slow")
NOTIFY = ("fail", "hang", "slow")


@dataclass
class _Draw:
    random: Random
    span: float
    events: list[Event] = field(default_factory=list)

    def at(self) -> float:
        return round(self.random.uniform(0, self.span), 2)

    def add(self, at: float, kind: str, *args: Any) -> None:
        self.events.append(Event(round(max(0.0, at), 2), kind, args))


def draw(seed: int) -> Scenario:
    """The history of a seed."""
    random = Random(f"remediator/{seed}")
    alone = random.random() < 0.25
    replicas = 1 if alone else random.choice((2, 2, 3))
    span = random.choice((60.0, 120.0, 120.0, 300.0))
    d = _Draw(random, span)
    _alerts(d)
    calm = random.random() < 0.1
    if not calm:
        _processes(d, replicas)
        _people(d)
        _world(d)
        _moments(d)
    faults = () if calm else _faults(random)
    d.events.sort(key=lambda event: event.at)
    return Scenario(seed, rules(random), replicas, alone, span, tuple(d.events), faults)


def _alerts(d: _Draw) -> None:
    random = d.random
    for number in range(random.randint(1, 6)):
        name, group = random.choice(ALERTS), random.choice(GROUPS)
        pod = random.choice(("x", "x", "y", f"p{number}"))
        at = random.uniform(0, d.span * 0.8)
        key = (name, group, pod)
        d.add(at, "fire", *key)
        if random.random() < 0.5:  # the other HA peer says the same a little later
            d.add(at + random.uniform(0, 3), "fire", *key)
        for _ in range(random.randint(0, 3)):
            d.add(at + random.uniform(1, d.span), "fire", *key)
        if random.random() < 0.5:
            end = at + random.expovariate(1 / 60)
            d.add(end, "resolve", *key)
            if random.random() < 0.5:
                d.add(end + random.uniform(0, 10), "late-firing", *key)
            if random.random() < 0.4:  # flapping
                again = end + random.uniform(1, 40)
                d.add(again, "fire", *key)
                d.add(again + random.uniform(0, 20), "resolve", *key)
    if random.random() < 0.1:  # a burst
        at, name = d.at(), random.choice(ALERTS)
        for number in range(12):
            d.add(at + number * 0.1, "fire", name, random.choice(GROUPS), f"b{number}")


def _processes(d: _Draw, replicas: int) -> None:
    random = d.random
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at, who = d.at(), random.choice(NAMES[:replicas])
        d.add(at, "kill", who, round(random.choice((0.0, 1.0, 5.0, 45.0)), 2))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        at, who = d.at(), random.choice(NAMES[:replicas])
        d.add(at, "freeze", who, round(random.choice((2.0, 20.0, 35.0, 70.0, 150.0)), 2))
    if random.random() < 0.3:  # right when something has just been decided
        for kind in ("kill-at", "kill-at", "freeze-at"):
            nth, seconds = random.randint(0, 6), random.choice((5.0, 40.0, 80.0))
            d.add(0, kind, random.choice(("admit", "send", "effect", "move")), nth, seconds)
    if random.random() < 0.3:
        d.add(d.at(), "stop", random.choice(NAMES[:replicas]), random.choice((0.0, 5.0)))
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        d.add(d.at(), "clock", random.choice((-600, -120, -40, -20, -5, 5, 20, 40, 600, 7200)))


def _people(d: _Draw) -> None:
    random = d.random
    for _ in range(random.choice((0, 1, 2, 4, 6))):
        at = d.at()
        kind = random.choice(
            ("pause", "pause", "cancel", "clear", "start", "policies", "policies", "resize", "resize", "wake")
        )
        match kind:
            case "pause":
                scope = random.choice(
                    (
                        "",
                        "",
                        "policy:grow",
                        "policy:token",
                        "policy:ladder",
                        f"target:sim/{random.choice('abc')}",
                    )
                )
                d.add(at, "pause", scope, random.choice((0, 20, 60)))
                d.add(at + random.uniform(1, 60), "resume", scope)
            case "cancel":
                d.add(at, "cancel", random.randint(0, 5))
            case "clear" | "wake":
                d.add(at, kind)
            case "start":
                d.add(at, "start", random.choice(ALERTS).lower(), random.choice(GROUPS))
            case "policies":
                change = random.choice(("demote", "remove", "tighten", "whole", "broken", "empty"))
                d.add(at, "policies", change, random.randint(0, 4))
            case "resize":
                d.add(at, "resize", random.choice("abc"), random.randint(0, 10))
    for _ in range(random.choice((0, 1, 2))):
        d.add(d.at(), "clear")
    for _ in range(random.choice((0, 2, 6, 10))):
        d.add(d.at(), "decide", random.choice(("approved", "approved", "rejected")))
    for _ in range(random.choice((0, 0, 1, 2))):
        d.add(d.at(), random.choice(("acknowledge", "restore")))


WHERE = (
    "claim", "facts", "facts", "now", "admit", "move", "controls@UNKNOWN", "controls@UNKNOWN",
    "facts@UNKNOWN", "facts@REVERTING", "effects@REVERTING", "now@VERIFY", "facts@APPROVAL", "facts@SETTLING",
    "facts@HOLD",
)  # fmt: skip
"""Right after a request of this kind; `@` with a run in this state in somebody's hands."""


def _moments(d: _Draw) -> None:
    """What happens right after a request was answered: the worst moments are between two of them."""
    random = d.random
    fired = [event.args for event in d.events if event.kind == "fire"]
    for _ in range(random.choice((0, 0, 2, 4))):
        where = random.choice(WHERE)
        what: tuple[Any, ...] = random.choice(
            (
                ("brake", "", 20),
                ("brake", f"target:sim/{random.choice('abc')}", 20),
                ("resolve", *random.choice(fired)),
                ("policies", random.choice(("demote", "remove")), random.randint(0, 6)),
                ("clock", random.choice((-40, 40, 120))),
                ("cancel", random.randint(0, 3)),
                ("clear",),
                ("resize", random.choice("abc"), random.randint(0, 10)),
                ("decide", "approved"),
            )
        )
        nth = random.randint(0, 2 if "@" in where else 40 if where in ("now", "facts") else 12)
        d.add(0, "at", where, nth, *what)


def _world(d: _Draw) -> None:
    random = d.random
    for _ in range(random.choice((0, 1, 2, 3))):
        at, group = d.at(), random.choice("abc")
        what = random.choice(("high", "low", "none", "nan", "stale", "flip"))
        d.add(at, "level", group, what)
    for group in "abc":
        d.add(0, "cure", group, random.choice((0, 1, 1, 2, 3)))


def _faults(random: Random) -> tuple[Fault, ...]:
    found: list[Fault] = []
    for nth in range(20):
        if random.random() < 0.25:
            what = random.choice(APPLY)
            found.append(Fault("apply", nth, what, round(random.random(), 3)))
    for nth in range(120):
        if random.random() < 0.05:
            found.append(Fault("read", nth, random.choice(READ), round(random.random(), 3)))
    rate = random.choice((0.0, 0.0, 0.01, 0.03, 0.1))
    for method, most in (
        ("admit", 15), ("move", 60), ("claim", 60), ("accept", 15), ("now", 40), ("facts", 40),
        ("store-read", 60), ("store-write", 60),
    ):  # fmt: skip
        own = max(rate, 0.1) if method in ("admit", "accept") and rate else rate
        for nth in range(most):
            if random.random() < own:
                found.append(Fault(method, nth, random.choice(STORE), round(random.random(), 3)))
    for nth in range(10):
        if random.random() < 0.15:
            found.append(Fault("notify", nth, random.choice(NOTIFY), round(random.random(), 3)))
    return tuple(found)
