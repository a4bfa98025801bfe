"""ADMIT for many runs at once, against a plain model: whatever two replicas put into one transaction or into
two that compete, some order of asking one by one explains every answer.

Those that were admitted stand in the order of their intents' ids, which are given out in turn. Each refusal
must be the model's very answer at some point of that order; it changes nothing, so any point will do.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.contracts import Admission, Flapping, Held, IntentUpdate, Slot, Surge
from remediator.errors import Conflict, LeaseLost
from remediator.model import (
    AuditEvent,
    Budget,
    Control,
    ControlKind,
    Instant,
    IntentKind,
    IntentOutcome,
    Millis,
    Mode,
    Outcome,
    Reason,
    Run,
    RunId,
    State,
    Status,
    span,
)
from remediator.store import open_store
from remediator.store.postgres.tx import CLASS
from tests.store.world import START, Lines, World, alert, limit, opening

POLICIES = ("p", "q")
KEYS = ("k1", "k2", "k3", "k4")
SPANS = (10, 50, 200)
ROUNDS = 7
SEEDS = 2
"""More of both found nothing more; each shortcut left out was found by these."""


@dataclass
class Acted:
    id: int
    at: int
    run: int
    policy: str
    key: str
    kind: IntentKind
    counted: bool
    applied: bool = True


@dataclass
class Ended:
    policy: str
    outcome: Outcome
    at: int
    key: str | None
    name: str
    fingerprint: str


@dataclass
class Model:
    """The rules of ADMIT, one at a time and without a short cut."""

    acted: list[Acted] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    locks: dict[str, int] = field(default_factory=dict)
    brakes: dict[tuple[str, str], Control] = field(default_factory=dict)
    arrived: list[int] = field(default_factory=list)
    quiet: set[int] = field(default_factory=set)
    """Runs whose alert has resolved."""
    policy_of: dict[int, str] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    """Target key → the names under which runs have acted on it."""

    def answer(self, run: Run, wanted: Admission, now: int) -> Held | None:
        return self._brakes(run, wanted, now) or self._bounds(run, wanted, now) or self._lock(run, wanted)

    def _brakes(self, run: Run, wanted: Admission, now: int) -> Held | None:
        forward = wanted.intent.kind is IntentKind.APPLY
        starting = forward and wanted.intent.counted
        if forward and wanted.policy_set != "set-1":
            return Held(
                reason=Reason.POLICIES_CHANGED,
                observed="policies set-1 are active",
                allowed=f"policies {wanted.policy_set}, with which the guards were asked",
            )
        target = wanted.intent.plan.target
        mine = {f"target:{one}" for one in (target.key, target.name, *self.names.get(target.key, ()))}
        for (kind, scope), brake in sorted(self.brakes.items()):
            seen = f"{scope or 'the daemon'}: {brake.reason} (by {brake.actor})"
            if kind == "pause" and (scope in ("", f"policy:{run.policy}") or scope in mine):
                return Held(reason=Reason.PAUSED, observed=seen, allowed="not paused", until=brake.until)
            if kind == "quarantine" and scope in mine:
                return Held(
                    reason=Reason.QUARANTINED, observed=seen, allowed="a target that is not quarantined"
                )
            if kind == "breaker" and scope == f"policy:{run.policy}" and forward and not wanted.begun:
                return Held(reason=Reason.BREAKER, observed=seen, allowed="a policy that heals")
        if starting:
            held = self._starting(run, wanted, now)
            if held is not None:
                return held
        if wanted.need_firing and run.id in self.quiet:
            return Held(
                reason=Reason.ALERT_RESOLVED, observed="no alert of this run fires", allowed="one that fires"
            )
        if forward and wanted.mode is Mode.APPROVE:
            return Held(
                reason=Reason.APPROVAL_PENDING,
                observed="no approval",
                allowed="one, for a run in mode approve",
            )
        return None

    def _starting(self, run: Run, wanted: Admission, now: int) -> Held | None:
        if wanted.slot.until is not None and now >= wanted.slot.until:
            return Held(
                reason=Reason.WINDOW,
                observed=f"window {wanted.slot.then} has changed since the guards were asked",
                allowed="a time in which windows let an action start",
            )
        storm, flapping = wanted.storm, wanted.flapping
        if storm is not None:
            after = now - now % 1000 - storm.within
            came = len([at for at in self.arrived if at - at % 1000 > after])
            if came >= storm.new_alerts:
                within = span(storm.within)
                return Held(
                    reason=Reason.STORM,
                    observed=f"{came} new alerts of {storm.sender} within {within}",
                    allowed=f"fewer than {storm.new_alerts} new alerts within {within}",
                )
        if flapping is not None and not wanted.begun:
            key, after = wanted.intent.plan.target.key, now - flapping.budget.window
            healed = [
                one
                for one in self.ended
                if (one.policy, one.outcome) == (run.policy, Outcome.SUCCEEDED) and one.at > after
                if key == one.key or run.target == one.name or flapping.fingerprint == one.fingerprint
            ]
            if len(healed) >= flapping.budget.count:
                return Held(
                    reason=Reason.FLAPPING,
                    observed=f"healed {len(healed)} times within {span(flapping.budget.window)}, "
                    "and it is back",
                    allowed=f"limits.flapping {flapping.budget}",
                )
        return None

    def _bounds(self, run: Run, wanted: Admission, now: int) -> Held | None:
        intent, target = wanted.intent, wanted.intent.plan.target
        if intent.kind is not IntentKind.APPLY or not intent.counted:
            return None
        for scope in ("global", "policy", "target"):
            for one in wanted.limits:
                budget = one.budget
                used = sorted(
                    act.at
                    for act in self.acted
                    if act.applied and act.counted and act.at > now - budget.window
                    if scope != "policy" or act.policy == run.policy
                    if scope != "target" or act.key == target.key
                )
                if one.scope == scope and len(used) >= budget.count:
                    until = Instant(used[-budget.count] + budget.window) if budget.count else None
                    return Held(
                        reason=Reason.BUDGET,
                        observed=f"{len(used)} in {span(budget.window)}",
                        allowed=f"{budget} ({scope}: test {scope})",
                        until=until,
                    )
        others = [
            act
            for act in self.acted
            if act.applied and act.key == target.key and act.run != run.id and act.at > now - wanted.cooldown
        ]
        if others and wanted.cooldown > 0:
            # Of those of the same moment any may be named.
            last = max(others, key=lambda act: (act.at, act.id))
            return Held(
                reason=Reason.COOLDOWN,
                observed=f"run {last.run} of {last.policy} acted {span(max(0, now - last.at))} ago",
                allowed=f"{span(wanted.cooldown)} after the last action on {target.name}",
                until=Instant(last.at + wanted.cooldown),
            )
        busy = {holder for holder in self.locks.values() if holder != run.id}
        own = len([one for one in busy if self.policy_of[one] == run.policy])
        for count, whose, most in (
            (own, f"of {run.policy}", wanted.concurrent_policy),
            (len(busy), "in all", wanted.concurrent_global),
        ):
            if count >= most:
                return Held(
                    reason=Reason.CONCURRENCY,
                    observed=f"{count} runs {whose} hold a target",
                    allowed=f"fewer than {most}",
                )
        return None

    def _lock(self, run: Run, wanted: Admission) -> Held | None:
        target = wanted.intent.plan.target
        holder = self.locks.get(target.key, run.id)
        if holder == run.id:
            return None
        return Held(
            reason=Reason.LOCK_BUSY,
            observed=f"run {holder} holds {target.name}",
            allowed="a target that no other run holds",
        )

    def admit(self, id: int, run: Run, wanted: Admission, now: int) -> None:
        intent = wanted.intent
        key = intent.plan.target.key
        self.acted.append(Acted(id, now, run.id, run.policy, key, intent.kind, intent.counted))
        self.locks[key] = run.id
        self.names.setdefault(key, set()).add(intent.plan.target.name)


Asked = tuple[Run, Admission]


@dataclass
class Game:
    chance: random.Random
    pair: tuple[World, World]
    database: str
    model: Model = field(default_factory=Model)
    wide: bool = False
    """Whether many may act, and bounds are met by many at once."""
    open: dict[RunId, Run] = field(default_factory=dict)
    numbers: dict[RunId, int] = field(default_factory=dict)
    last_key: dict[RunId, str] = field(default_factory=dict)
    fingerprint: dict[RunId, str] = field(default_factory=dict)
    started: int = 0
    admitted: int = 0

    @property
    def one(self) -> World:
        return self.pair[0]

    async def play(self) -> None:
        await self.one.activate()
        for _ in range(ROUNDS):
            self.wide = self.chance.random() < 0.5
            self.one.later(self.chance.choice([0, 1, 9, 10, 11, 49, 50, 51, 199, 200]))
            await self.arrive()
            await self.resolve()
            await self.brake()
            back = self.chance.choice([0, 0, 1, 30, 250])
            self.one.later(-back)  # what was done then lies in the future, and counts
            await self.ask()
            self.one.later(back)
            await self.answer()
        records = self.one.store.audit(kind="run.admitted", limit=10_000)
        assert len(await records) == self.admitted

    async def arrive(self) -> None:
        """New runs, claimed by either replica."""
        count = self.chance.randrange(4, 16 if not self.wide else 40)
        for policy in POLICIES:
            names = [f"{policy}{self.started + n}" for n in range(count)]
            self.started += count
            self.one.openings = lambda one, policy=policy: (  # type: ignore[misc]
                opening(policy, f"db:{one.fingerprint}", open_runs=10_000, next_at=self.one.now),
            )
            await self.one.deliver(*(alert(name, at=self.one.now) for name in names))
            self.model.arrived += [self.one.now] * count
        await self.claim()

    async def claim(self) -> None:
        for world in self.pair:
            for run in await world.store.claim("w", self.chance.choice([5, 1_000])):
                self._mine(run)
        for run in await self.one.store.claim("w", 10_000):
            self._mine(run)

    def _mine(self, run: Run) -> None:
        self.open[run.id] = run
        self.model.policy_of[run.id] = run.policy
        self.fingerprint[run.id] = (run.target or "").removeprefix("db:")

    async def resolve(self) -> None:
        some = [run for run in self.open.values() if run.id not in self.model.quiet]
        some = self.chance.sample(some, min(2, len(some)))
        for run in some:
            [episode, *_] = await self.one.store.episodes(run.id)
            await self.one.deliver(msgspec.structs.replace(episode.alert, status=Status.RESOLVED))
            self.model.quiet.add(run.id)

    async def brake(self) -> None:
        model = self.model
        for kind, scope in list(model.brakes):
            if self.chance.random() < 0.6:
                await self.one.store.clear_control(
                    ControlKind(kind), scope, AuditEvent(kind="control.resumed")
                )
                del model.brakes[kind, scope]
        if self.chance.random() < (0.1 if self.wide else 0.5):
            kind, scope = self.chance.choice(
                [
                    ("pause", f"policy:{self.chance.choice(POLICIES)}"),
                    ("pause", f"target:{self.chance.choice(KEYS)}"),
                    ("pause", f"target:{self.chance.choice([run.target for run in self.open.values()])}"),
                    ("quarantine", f"target:{self.chance.choice(KEYS)}"),
                    ("breaker", f"policy:{self.chance.choice(POLICIES)}"),
                ]
            )
            brake = Control(
                kind=ControlKind(kind), scope=scope, reason="drill", actor="alice", since=self.one.now
            )
            await self.pair[1].store.set_control(brake, AuditEvent(kind="control.paused"))
            model.brakes[kind, scope] = brake
        # Locks that a quarantine kept, of runs that have ended, are free when it is lifted.
        model.locks = {key: RunId(run) for key, run in (await self.one.store.locks()).items()}
        model.locks = {key: run for key, run in model.locks.items() if run in self.open}

    async def ask(self) -> None:
        """Many at once, on both replicas, which find the door shut at first: so they meet in groups."""
        chance, model = self.chance, self.model
        asked: list[Asked] = []
        bad: list[tuple[Run, Admission, type[Exception]]] = []
        numbers = dict(self.numbers)
        stored = await self.ids()
        for run in chance.choices(
            list(self.open.values()), k=chance.randrange(2, 60 if not self.wide else 100)
        ):
            number = numbers.get(run.id, 0) + 1
            wanted = self.admission(run, number)
            what = chance.random() * (5 if self.wide else 1)
            if what < 0.04:
                bad.append((msgspec.structs.replace(run, epoch=run.epoch - 1), wanted, LeaseLost))
            elif what < 0.12 and (there := [number for id, number in stored if id == run.id]):
                bad.append((run, self.admission(run, there[0], IntentKind.REVERT), Conflict))
            else:
                numbers[run.id] = number  # whatever is refused leaves a gap
                asked.append((run, wanted))
        mixed: list[tuple[Run, Admission]] = [*asked, *((run, wanted) for run, wanted, _ in bad)]
        order = list(range(len(mixed)))
        chance.shuffle(order)
        gate = psycopg.connect(self.database, autocommit=True)
        gate.execute("SELECT pg_advisory_lock(%s, %s)", (CLASS, _key("brakes")))
        tasks: dict[int, asyncio.Task[Run | Held]] = {}
        for place in order:
            run, wanted = mixed[place]
            world = self.pair[chance.randrange(2)]
            tasks[place] = asyncio.create_task(world.store.admit(run, wanted))
        await asyncio.sleep(0.05)
        gate.close()
        await asyncio.wait(tasks.values())
        self.numbers = numbers
        now = self.one.now
        answers = [tasks[place].result() for place in range(len(asked))]
        ids = await self.ids()
        yes = sorted(
            (ids[run.id, wanted.intent.number], run, wanted)
            for (run, wanted), answer in zip(asked, answers, strict=True)
            if isinstance(answer, Run)
        )
        left = [
            (run, wanted, answer)
            for (run, wanted), answer in zip(asked, answers, strict=True)
            if isinstance(answer, Held)
        ]
        for step in range(len(yes) + 1):
            left = [
                (run, wanted, answer)
                for run, wanted, answer in left
                if model.answer(run, wanted, now) != answer
                and not _same_moment(model, run, wanted, now, answer)
            ]
            if step < len(yes):
                id, run, wanted = yes[step]
                assert model.answer(run, wanted, now) is None, (run.id, wanted)
                model.admit(id, run, wanted, now)
                self.last_key[run.id] = wanted.intent.plan.target.key
        assert left == []
        self.admitted += len(yes)
        for place, (_, _, error) in enumerate(bad, len(asked)):
            raised = tasks[place].exception()  # a brake may have held it before it came to that
            assert isinstance(raised, error) or isinstance(tasks[place].result(), Held), raised
        await self.as_stored()

    def admission(self, run: Run, number: int, kind: IntentKind | None = None) -> Admission:
        chance, wide = self.chance, self.wide
        before = self.last_key.get(run.id)
        kind = kind or (IntentKind.REVERT if before and chance.random() < 0.3 else IntentKind.APPLY)
        key = before
        if key is None or kind is IntentKind.APPLY:
            own = f"own:{run.target}"
            key = chance.choice([*KEYS, *[own] * 40]) if wide else chance.choice([*KEYS, own])
        counts = [*[0] * 8, *range(10, 70)] if wide else [0, 1, 2, 3]
        limits = [
            limit(chance.choice(["global", "policy", "target"]), chance.choice(counts), chance.choice(SPANS))
            for _ in range(chance.choice([0, 0, 1, 2]))
        ]
        limits = [one for one in limits if one.budget.count or chance.random() < 0.2]
        made = self.one.admission(
            run,
            number,
            key,
            *sorted(limits, key=lambda one: ("global", "policy", "target").index(one.scope)),
            kind=kind,
            counted=chance.random() < 0.85,
            cooldown=Millis(chance.choice([0, 0, 10, 50])),
            concurrent_policy=chance.choice([10, 20, 40, 60, 100] if wide else [1, 3, 100, 100]),
            concurrent_global=chance.choice([20, 40, 60, 80, 150] if wide else [1, 4, 100, 100]),
            policy_set="set-2" if chance.random() < 0.05 else "set-1",
            need_firing=kind is IntentKind.APPLY and chance.random() < 0.5,
        )
        now = self.one.now
        if wide and chance.random() < 0.9:
            return made
        return msgspec.structs.replace(
            made,
            mode=Mode.APPROVE if chance.random() < 0.05 else Mode.ENFORCE,
            begun=chance.random() < 0.2,
            slot=Slot(until=Instant(now + chance.choice([0, 1])), then="night")
            if chance.random() < 0.1
            else made.slot,
            storm=Surge(
                sender="am",
                new_alerts=chance.choice([1, 40, 1_000]),
                within=Millis(chance.choice([0, 1_000])),
            )
            if chance.random() < 0.2
            else None,
            flapping=Flapping(
                budget=Budget(count=chance.choice([0, 1, 2, 3]), window=Millis(chance.choice(SPANS))),
                sender="am",
                fingerprint=self.fingerprint[run.id],
            )
            if chance.random() < 0.5
            else None,
        )

    async def ids(self) -> dict[tuple[int, int], int]:
        with psycopg.connect(self.database) as connection:
            rows = connection.execute("SELECT run, number, id FROM intent").fetchall()
        assert len({id for _, _, id in rows}) == len(rows)
        return {(run, number): id for run, number, id in rows}

    async def as_stored(self) -> None:
        """What stands in the tables is what the model has, and nothing else."""
        stored = await self.ids()
        assert {act.id for act in self.model.acted} == set(stored.values())
        locks = {key: run for key, run in (await self.one.store.locks()).items() if run in self.open}
        assert locks == self.model.locks

    async def answer(self) -> None:
        """Calls answer, runs end: all at the same moment."""
        chance, model = self.chance, self.model
        moving: list[asyncio.Task[Run]] = []
        numbers = {id: number for (_, number), id in (await self.ids()).items()}
        for run in list(self.open.values()):
            mine = [act for act in model.acted if act.run == run.id and act.applied]
            update: tuple[IntentUpdate, ...] = ()
            what = chance.random()
            if mine and what < 0.3:
                act = mine[-1]
                undone = chance.random() < 0.4
                act.applied = not undone
                outcome = IntentOutcome.NOT_APPLIED if undone else IntentOutcome.APPLIED
                update = (IntentUpdate(number=numbers[act.id], outcome=outcome),)
            world = self.pair[chance.randrange(2)]
            if what < 0.15 or 0.5 < what < 0.7:
                outcome_ = chance.choice([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.ESCALATED])
                moving.append(asyncio.create_task(world.end(run, outcome_, intents=update)))
                del self.open[run.id]
                model.ended.append(
                    Ended(
                        run.policy,
                        outcome_,
                        self.one.now,
                        self.last_key.get(run.id),
                        run.target or "",
                        self.fingerprint[run.id],
                    )
                )
                model.locks = {key: holder for key, holder in model.locks.items() if holder != run.id}
            elif what < 0.5:
                moving.append(asyncio.create_task(world.move(run, State.GUARD, intents=update)))
        if moving:
            await asyncio.gather(*moving)
        await self.claim()


def _same_moment(model: Model, run: Run, wanted: Admission, now: int, answer: Held) -> bool:
    """Two actions of one moment: which of them a cooldown names is not said."""
    found = model.answer(run, wanted, now)
    return (
        found is not None
        and answer.reason is found.reason is Reason.COOLDOWN
        and (answer.allowed, answer.until) == (found.allowed, found.until)
        and answer.observed.partition("acted")[2] == found.observed.partition("acted")[2]
    )


def _key(name: str) -> int:
    return (zlib.crc32(name.encode()) & 0x7FFFFFF0) + 16


async def _replica(database: str, clock: DrivenClock) -> World:
    async def reopen() -> None:
        raise NotImplementedError

    world = World(open_store(database, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    return world


@pytest_asyncio.fixture
async def pair(database: str) -> AsyncIterator[tuple[World, World]]:
    clock = DrivenClock(START)
    one, two = await _replica(database, clock), await _replica(database, clock)
    yield one, two
    await one.store.close()
    await two.store.close()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_some_order_explains_every_answer(pair: tuple[World, World], database: str, seed: int) -> None:
    await Game(random.Random(seed), pair, database).play()
