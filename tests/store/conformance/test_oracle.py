"""Budgets, cooldowns, concurrency and locks against a simple oracle, on random histories."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.clock import DrivenClock
from remediator.contracts import Held, IntentUpdate, Limit
from remediator.model import IntentKind, IntentOutcome, Reason, Run, State
from remediator.store import open_store
from tests.store.world import START, Lines, World, limit

POLICIES = ("p", "q")
TARGETS = ("k1", "k2", "k3")


@dataclass
class Acted:
    at: int
    run: int
    policy: str
    key: str
    counted: bool = True
    applied: bool = True


@dataclass
class Oracle:
    """The rules of ADMIT, as plainly as they can be said."""

    acted: list[Acted] = field(default_factory=list)
    locks: dict[str, int] = field(default_factory=dict)
    policy_of: dict[int, str] = field(default_factory=dict)

    def expected(self, run: Run, key: str, now: int, rules: Rules) -> Reason | None:
        for one in rules.limits:
            window = [
                act
                for act in self.acted
                if act.applied
                and act.counted
                and act.at > now - one.budget.window
                and (one.scope != "policy" or act.policy == run.policy)
                and (one.scope != "target" or act.key == key)
            ]
            if len(window) >= one.budget.count:
                return Reason.BUDGET
        others = [act for act in self.acted if act.applied and act.key == key and act.run != run.id]
        if any(act.at > now - rules.cooldown for act in others):
            return Reason.COOLDOWN
        holders = {holder for holder in self.locks.values() if holder != run.id}
        if len([one for one in holders if self.policy_of[one] == run.policy]) >= rules.concurrent_policy:
            return Reason.CONCURRENCY
        if len(holders) >= rules.concurrent_global:
            return Reason.CONCURRENCY
        if self.locks.get(key, run.id) != run.id:
            return Reason.LOCK_BUSY
        return None


@dataclass(frozen=True)
class Rules:
    limits: tuple[Limit, ...]
    cooldown: int
    concurrent_policy: int
    concurrent_global: int


limits = st.lists(
    st.builds(
        limit,
        st.sampled_from(["global", "policy", "target"]),
        st.integers(0, 3),
        st.sampled_from([10, 50, 200]),
    ),
    max_size=3,
).map(lambda found: tuple(sorted(found, key=lambda one: ["global", "policy", "target"].index(one.scope))))
rules = st.builds(Rules, limits, st.sampled_from([0, 10, 60]), st.integers(1, 2), st.integers(1, 3))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([1, 9, 10, 40, 100])),
        st.tuples(st.just("start"), st.sampled_from(POLICIES)),
        st.tuples(st.just("admit"), st.integers(0, 9), st.sampled_from(TARGETS), rules),
        st.tuples(st.just("revert"), st.integers(0, 9)),
        st.tuples(st.just("not applied"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
    ),
    max_size=25,
)


async def play(history: list[tuple[object, ...]]) -> None:
    clock = DrivenClock(START)
    store = open_store("sqlite://", clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)
    await store.open()
    await world.activate()
    oracle = Oracle()
    open_runs: list[Run] = []
    last_key: dict[int, str] = {}
    numbers: dict[int, int] = {}
    started = 0
    for step in history:
        match step:
            case ("wait", int(span)):
                world.later(span)
            case ("start", str(policy)):
                started += 1
                run = await world.start(f"a{started}", policy=policy)
                oracle.policy_of[run.id] = policy
                open_runs.append(run)
            case ("admit", int(which), str(key), Rules() as now_rules) if open_runs:
                run = open_runs[which % len(open_runs)]
                number = numbers.get(run.id, 0) + 1
                wanted = oracle.expected(run, key, world.now, now_rules)
                answer = await world.admit(
                    run,
                    number,
                    *now_rules.limits,
                    key=key,
                    cooldown=now_rules.cooldown,
                    concurrent_policy=now_rules.concurrent_policy,
                    concurrent_global=now_rules.concurrent_global,
                )
                assert (answer.reason if isinstance(answer, Held) else None) == wanted
                if not isinstance(answer, Held):
                    oracle.acted.append(Acted(world.now, run.id, run.policy, key))
                    oracle.locks[key] = run.id
                    numbers[run.id], last_key[run.id] = number, key
                elif answer.until is not None and answer.reason is Reason.BUDGET:
                    assert world.now < answer.until
            case ("revert", int(which)) if open_runs:
                run = open_runs[which % len(open_runs)]
                if run.id in last_key:
                    number, key = numbers[run.id] + 1, last_key[run.id]
                    await world.admitted(run, number, key=key, kind=IntentKind.REVERT)
                    numbers[run.id] = number
                    oracle.acted.append(Acted(world.now, run.id, run.policy, key))
            case ("not applied", int(which)) if open_runs:
                run = open_runs[which % len(open_runs)]
                if run.id in numbers:
                    update = IntentUpdate(number=numbers[run.id], outcome=IntentOutcome.NOT_APPLIED)
                    await world.move(run, State.GUARD, intents=(update,))
                    taken = {one.id: one for one in await world.store.claim("w", 1_000)}
                    open_runs[:] = [taken.get(one.id, one) for one in open_runs]
                    [act] = [one for one in oracle.acted if one.run == run.id][numbers[run.id] - 1 :]
                    act.applied = False
            case ("end", int(which)) if open_runs:
                run = open_runs.pop(which % len(open_runs))
                await world.end(run)
                oracle.locks = {key: holder for key, holder in oracle.locks.items() if holder != run.id}
        assert await store.locks() == oracle.locks
    await store.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_admit_agrees_with_the_oracle(history: list[tuple[object, ...]]) -> None:
    asyncio.run(play(history))
