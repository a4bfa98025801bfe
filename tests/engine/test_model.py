"""The engine against its invariants, on random histories: alerts, faults, people, policies, restarts.

Hypothesis plays what may happen in any order, on a clock of its own and on the real store in a file. What is
asked after each step is asked of the world, which has seen every call, and of the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from remediator.engine.case import Tools
from remediator.engine.execute import Execute
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.watch import Incidents
from remediator.engine.policies import Policies
from remediator.engine.threads import Threads
from remediator.engine.worker import Worker
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Intent,
    IntentKind,
    IntentOutcome,
    Origin,
    Run,
    Status,
)
from remediator.notify.audience import Routing
from remediator.store import open_store
from tests.engine.world import Given, Rig, Told, World

T = TypeVar("T")

GROUPS = ("a", "b", "c")
MOST = 10
COOLDOWN = 3 * MINUTE
PER_POLICY, PER_TARGET, IN_ALL = (3, HOUR), (2, HOUR), (4, 30 * MINUTE)
AT_ONCE = 2
LIMITS = f"""
limits:
  cooldown: 3m
  per_target: [{PER_TARGET[0]} per 1h]
  budget: [{PER_POLICY[0]} per 1h]
  concurrent: 1
  blast_radius: 100%
"""
CHECKED = f"""
name: checked
mode: enforce
from: [am]
match: [alertname="Checked"]
for: 1m
give_up: 20m
remedies:
  - action: world.resize
    with: {{group: "${{labels.group}}", add: 2, max: {MOST}}}
verify:
  within: 4m
  every: 1m
  checks: [{{check: world.level, with: {{}}, is: "< 50"}}]
on_failure: revert
{LIMITS}"""
TOKENS = f"""
name: tokens
mode: enforce
from: [am]
match: [alertname="Tokens"]
give_up: 10m
remedies:
  - action: world.resize_by_token
    with: {{group: "${{labels.group}}", add: 3, max: {MOST}}}
    expires: 12m
{LIMITS}"""
STEPS = f"""
name: steps
mode: enforce
from: [am]
match: [alertname="Steps"]
remedies:
  - action: world.resize
    with: {{group: "${{labels.group}}", add: 4, max: {MOST}, by: 2}}
  - action: world.resize
    with: {{group: "${{labels.group}}", add: 1, max: {MOST}}}
verify:
  within: 2m
  every: 30s
  checks: [{{check: world.level, with: {{}}, is: "< 50"}}]
on_failure: revert
{LIMITS}"""
ALL_OF_THEM = f"global: {{budget: [{IN_ALL[0]} per 30m], concurrent: {AT_ONCE}}}\n"
NAMES = ("Checked", "Tokens", "Steps")
FATES = ("throttle", "deny", "lost-before", "lost-after", "bug", "die-before", "die-after")
IN_DOUBT = (IntentOutcome.PENDING, IntentOutcome.UNKNOWN)
SPANS = (0, SECOND, 30 * SECOND, 2 * MINUTE, 11 * MINUTE, 40 * MINUTE)


class Died(BaseException):
    """What became of the process in the middle of a call."""


@dataclass
class Attempt:
    """One call that reached the world, whatever became of it."""

    at: int
    group: str
    before: int
    after: int
    token: str
    paused: bool


@dataclass
class Witness(World):
    """The world, with a memory of every attempt, and two more ways to go wrong: dying before and after."""

    now: Any = None
    attempts: list[Attempt] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)

    def resize(self, group: str, before: int, after: int, token: str) -> None:
        paused = bool({"", f"target:world/earth/{group}"} & self.paused)
        self.attempts.append(Attempt(self.now(), group, before, after, token, paused))
        fate = self.faults.pop(0) if self.faults else ""
        if fate == "die-before":
            raise Died
        if fate and fate != "die-after":
            self.faults.insert(0, fate)
        super().resize(group, before, after, token)
        if fate == "die-after":
            raise Died


class Restartable(Rig):
    """A rig whose process can be replaced by another on the same file."""

    def __init__(self, *policies: str, world: World, url: str) -> None:
        super().__init__(*policies, limits=ALL_OF_THEM, world=world, url=url)
        self.url = url
        self._assemble()

    def _assemble(self) -> None:
        self.store = open_store(self.url, self.clock, receivers={"told": Told()})
        self.policies = Policies(self.store, self.known, self.compile, None)
        # No call hangs here, and a machine under load must not look as if one did.
        execute = Execute(Given, Threads(), read_timeout=60.0, apply_timeout=60.0)
        self.worker = Worker("rig", Tools(self.store, self.known, execute), self.policies)
        self.incidents = Incidents(self.store, self.policies, Telling(Routing()))

    async def restart(self) -> None:
        await self.worker.stop(5)
        await self.store.close()
        self._assemble()
        await self.store.open()
        await self.policies.start()


class Model(RuleBasedStateMachine):
    """What may happen, and what must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = contextlib.ExitStack()
        self.quiet.enter_context(structlog.testing.capture_logs())  # a fault's traceback costs more than all
        self.home = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.runner = asyncio.Runner()
        loop = self.runner.get_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # of Died, which nobody asks about
        self.world = Witness(sizes={"a": 3, "b": 1, "c": 9})
        self.rig = Restartable(CHECKED, TOKENS, STEPS, world=self.world, url=f"sqlite://{self.home}/m.db")
        self.world.now = self.rig.clock.now
        self.files = dict(self.rig.files)
        self.elapsed = 0
        self.open: dict[tuple[str, str], Instant] = {}
        self.accepted: dict[int, str] = {}
        self.forgiven: set[str] = set()
        """Tokens of calls whose quarantine a person has cleared."""
        self.do(self.rig.__aenter__())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def drain(self) -> None:
        self.do(self.rig.worker.drain())

    # ------------------------------------------------------------ what may happen

    @initialize(level=st.sampled_from([120.0, 10.0]))
    def begin(self, level: float) -> None:
        self.world.levels["queue"] = level

    @rule(
        name=st.sampled_from(NAMES),
        group=st.sampled_from(GROUPS),
        fates=st.lists(st.sampled_from(FATES), max_size=2),
        span=st.sampled_from(SPANS),
    )
    def fire(self, name: str, group: str, fates: list[str], span: int) -> None:
        """A new episode, or its sender repeats itself; the next calls may go wrong, and time passes."""
        self.world.faults = fates
        since = self.open.setdefault((name, group), self.rig.clock.now())
        receipt = self.do(self.rig.fire(alertname=name, group=group, since=since))
        for id in receipt.alerts:
            self.accepted[id] = f"alertname={name}-group={group}-severity=P2"
        self.later(span)

    @rule(group=st.sampled_from(GROUPS))
    def attach(self, group: str) -> None:
        """Another episode about the same target."""
        receipt = self.do(
            self.rig.fire(alertname="Checked", group=group, pod="x", since=self.rig.clock.now())
        )
        for id in receipt.alerts:
            self.accepted[id] = f"alertname=Checked-group={group}-pod=x-severity=P2"
        self.drain()

    @rule(which=st.integers(0, 8), status=st.sampled_from([Status.RESOLVED, Status.CLOSED]))
    def resolve(self, which: int, status: Status) -> None:
        if self.open:
            (name, group) = sorted(self.open)[which % len(self.open)]
            since = self.open.pop((name, group))
            self.do(self.rig.fire(alertname=name, group=group, since=since, status=status))
            self.drain()

    @rule(span=st.sampled_from(SPANS))
    def later(self, span: int) -> None:
        self.elapsed += span
        self.do(self.rig.until(self.elapsed))

    @rule(level=st.sampled_from([120.0, 10.0, None]))
    def level_moves(self, level: float | None) -> None:
        self.world.levels["queue"] = level

    @rule(group=st.sampled_from(GROUPS), size=st.integers(0, MOST))
    def a_person_resizes(self, group: str, size: int) -> None:
        self.world.sizes[group] = size

    @rule(polls=st.integers(0, 4))
    def the_provider_is_slow(self, polls: int) -> None:
        self.world.unsettled = polls

    @rule(scope=st.sampled_from(["", "policy:checked", "target:world/earth/a"]))
    def pause(self, scope: str) -> None:
        control = Control(
            kind=ControlKind.PAUSE, scope=scope, reason="r", actor="alice", since=self.rig.clock.now()
        )
        self.do(self.rig.store.set_control(control, AuditEvent(kind="control.paused", actor="alice")))
        self.world.paused.add(scope)

    @rule()
    def resume(self) -> None:
        for scope in sorted(self.world.paused):
            event = AuditEvent(kind="control.resumed", actor="alice")
            self.do(self.rig.store.clear_control(ControlKind.PAUSE, scope, event))
        self.world.paused.clear()
        self.drain()

    @rule()
    def a_person_clears_the_quarantine(self) -> None:
        for control in self.do(self.rig.store.controls()):
            if control.kind is ControlKind.QUARANTINE:
                event = AuditEvent(kind="target.cleared", actor="alice")
                self.do(self.rig.store.clear_control(ControlKind.QUARANTINE, control.scope, event))
                self.forgiven |= {
                    intent.token
                    for run, intents in self.everything()
                    for intent in intents
                    if not run.open and f"target:{intent.plan.target.key}" == control.scope
                }

    @rule(how=st.sampled_from(["whole", "demoted", "deleted"]))
    def policies_change(self, how: str) -> None:
        files = dict(self.files)
        if how == "demoted":
            files["checked.yaml"] = files["checked.yaml"].replace("mode: enforce", "mode: observe")
        if how == "deleted":
            del files["checked.yaml"]
        self.do(self.rig.load(files))
        self.drain()

    @rule()
    def restart(self) -> None:
        self.do(self.rig.restart())
        self.drain()

    # ------------------------------------------------------------ what must hold

    def everything(self) -> list[tuple[Run, list[Intent]]]:
        store = self.rig.store

        async def read() -> list[tuple[Run, list[Intent]]]:
            runs = reversed(await store.find_runs(limit=1000))
            return [(run, list(await store.intents(run.id))) for run in runs]

        return self.do(read())

    @invariant()
    def it_holds(self) -> None:
        found = self.everything()
        locks = self.do(self.rig.store.locks())
        self.calls_have_one_intent_each(found)
        self.bounds_hold(found)
        self.one_at_a_time(found, locks)
        self.nothing_in_doubt_is_let_go(found, locks)
        for run, _ in found:
            assert run.outcome is not None or run.next_at is not None, f"{run} stands still"

    def calls_have_one_intent_each(self, found: list[tuple[Run, list[Intent]]]) -> None:
        self.by_token = {intent.token: (run, intent) for run, intents in found for intent in intents}
        assert len(self.by_token) == sum(len(intents) for _, intents in found)
        tried = Counter(attempt.token for attempt in self.world.attempts)
        carried_out = Counter(token for _, _, token in self.world.calls)
        for attempt in self.world.attempts:
            assert attempt.token in self.by_token, f"{attempt} was never permitted"
            _, intent = self.by_token[attempt.token]
            assert (attempt.before, attempt.after) == (intent.plan.before["size"], intent.plan.after["size"])
            assert carried_out[attempt.token] <= 1
            if intent.plan.action != "world.resize_by_token":
                assert tried[attempt.token] == 1, f"{attempt} was called again"
                assert attempt.at == intent.created_at
            assert not attempt.paused, f"{attempt} under a pause"

    def bounds_hold(self, found: list[tuple[Run, list[Intent]]]) -> None:
        """Counted from the world's own calls and those still in doubt, each dated when it was permitted."""
        assert all(size <= MOST for size in self.world.sizes.values())
        carried_out = {token for _, _, token in self.world.calls}
        seen: dict[str, tuple[Run, Intent]] = {}
        for attempt in self.world.attempts:
            run, intent = self.by_token[attempt.token]
            counts = attempt.token in carried_out or intent.outcome in IN_DOUBT
            if not counts or attempt.token in seen:
                continue
            if intent.kind is IntentKind.APPLY and intent.counted:
                self.within_bounds(run, intent, list(seen.values()))
            seen[attempt.token] = run, intent

    def within_bounds(self, run: Run, intent: Intent, before: list[tuple[Run, Intent]]) -> None:
        key, at = intent.plan.target.key, intent.created_at
        counted = [(other, one) for other, one in before if one.counted]
        everyone = [one.created_at for _, one in counted]
        own = [one.created_at for other, one in counted if other.policy == run.policy]
        here = [one.created_at for _, one in counted if one.plan.target.key == key]
        for times, (most, window) in ((everyone, IN_ALL), (own, PER_POLICY), (here, PER_TARGET)):
            assert sum(one > at - window for one in times) < most, f"{intent}: beyond {most} in {window} ms"
        for other, one in before:
            if one.plan.target.key == key and other.id != run.id:
                assert one.created_at <= at - COOLDOWN, f"{intent}: within the cooldown after {one}"

    def one_at_a_time(self, found: list[tuple[Run, list[Intent]]], locks: Any) -> None:
        acting: Counter[str] = Counter()
        for run, intents in found:
            if run.open:
                acting.update(
                    {
                        intent.plan.target.key
                        for intent in intents
                        if intent.outcome is not IntentOutcome.NOT_APPLIED
                    }
                )
        assert all(count == 1 for count in acting.values()), acting
        assert set(acting) <= set(locks)
        holders = {run.id: run for run, _ in found if run.id in locks.values() and run.open}
        forward = [run.policy for run in holders.values() if run.origin is not Origin.LEASE]
        assert len(forward) <= AT_ONCE
        assert all(count == 1 for count in Counter(forward).values())

    def nothing_in_doubt_is_let_go(self, found: list[tuple[Run, list[Intent]]], locks: Any) -> None:
        for run, intents in found:
            for intent in intents:
                if intent.outcome in IN_DOUBT and intent.token not in self.forgiven:
                    assert locks.get(intent.plan.target.key) == run.id, f"{intent} in doubt, and free"

    @invariant()
    def nothing_is_lost(self) -> None:
        stored = {
            episode.id: episode.alert.fingerprint
            for episode in self.do(self.rig.store.find_episodes(limit=1000))
        }
        assert self.accepted.items() <= stored.items()

    @invariant()
    def the_log_is_whole(self) -> None:
        async def verify() -> bool:
            await self.rig.store.seal()
            return (await self.rig.store.verify()).whole

        assert self.do(verify())

    # ------------------------------------------------------------ and in the end

    def teardown(self) -> None:
        """With nobody in the way, everything comes to an end, and lets go of what it held."""
        try:
            self.world.faults.clear()
            self.world.unsettled = 0
            self.resume()
            for which in range(len(self.open)):
                self.resolve(which, Status.RESOLVED)
            for group in GROUPS:
                self.do(self.rig.fire(alertname="Checked", group=group, pod="x", status=Status.RESOLVED))
            self.later(24 * HOUR)
            self.it_holds()
            found = self.everything()
            assert [run for run, _ in found if run.open] == []
            quarantined = {
                control.scope.removeprefix("target:")
                for control in self.do(self.rig.store.controls())
                if control.kind is ControlKind.QUARANTINE
            }
            assert set(self.do(self.rig.store.locks())) <= quarantined
            assert self.do(self.rig.store.effects(open=True)) == []
        finally:
            with contextlib.suppress(BaseException):
                self.do(self.rig.__aexit__(None, None, None))
            self.runner.close()
            self.quiet.close()
            shutil.rmtree(self.home, ignore_errors=True)


Model.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestModel = Model.TestCase
