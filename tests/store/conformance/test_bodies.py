"""Large bodies against a plain model: what each alert is, which run it belongs to, and who is turned away."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import msgspec
import pytest

from remediator.clock import DrivenClock
from remediator.contracts import Opening
from remediator.model import Alert, Outcome, Reason, Status
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert, opening

POLICIES = {"p": 3, "q": 7, "r": 1, "s": 1_000}
"""Policy → its limit of open runs."""


def matching(one: Alert) -> list[Opening]:
    """Which policies want it, and on which target: some have none."""
    number = int(one.fingerprint.removeprefix("a"))
    found = []
    for place, (policy, most) in enumerate(POLICIES.items()):
        if number % (place + 2) == 0:
            target = None if number % 5 == 0 else f"db:{number % (11 * (place + 1))}"
            found.append(opening(policy, target, open_runs=most, next_at=START))
    return found


@dataclass
class Model:
    firing: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    runs: list[tuple[str, str | None, list[str]]] = field(default_factory=list)
    by_target: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def take(self, one: Alert) -> str:
        name = one.fingerprint
        if one.status is Status.FIRING:
            if name in self.firing or (name in self.ended and one.starts_at <= self.ended[name]):
                return "repeated"
            self.firing[name] = one.starts_at
            for wanted in matching(one):
                self._open(wanted, name)
            return "accepted"
        if name in self.firing:
            self.ended[name] = self.firing.pop(name)
            return "resolved"
        if name in self.ended:
            return "repeated"
        self.ended[name] = one.starts_at
        return "resolved"

    def _open(self, wanted: Opening, name: str) -> None:
        place = (wanted.policy, wanted.target or "")
        if wanted.target is not None and place in self.by_target:
            self.runs[self.by_target[place]][2].append(name)
            return
        count = len([one for one in self.runs if one[0] == wanted.policy])
        if count >= wanted.open_runs:
            self.refused.append(wanted.policy)
            return
        if wanted.target is not None:
            self.by_target[place] = len(self.runs)
        self.runs.append((wanted.policy, wanted.target, [name]))


def body(chance: random.Random, size: int, names: int) -> list[Alert]:
    some = []
    for _ in range(size):
        status = Status.FIRING if chance.random() < 0.7 else Status.RESOLVED
        some.append(alert(f"a{chance.randrange(names)}", status, at=START))
    return some


@pytest.mark.parametrize("seed", range(3))
async def test_a_body_is_what_its_alerts_are_one_by_one(world: World, seed: int) -> None:
    await world.activate()
    chance = random.Random(seed)
    world.openings = matching
    model = Model()
    for _ in range(chance.choice([1, 3, 6])):
        alerts = body(chance, chance.choice([3, 50, 700]), chance.choice([5, 60, 900]))
        before = len(model.refused)
        wanted = [model.take(one) for one in alerts]
        receipt = await world.deliver(*alerts)
        assert receipt.accepted == wanted.count("accepted")
        assert receipt.resolved == wanted.count("resolved")
        assert receipt.repeated == wanted.count("repeated")
        assert sorted(receipt.refused) == sorted(model.refused[before:])
    await agrees(world, model)


async def agrees(world: World, model: Model) -> None:
    runs = await world.store.find_runs(limit=100_000)
    open_ = [run for run in runs if run.outcome is None]
    assert sorted((run.policy, run.target or "") for run in open_) == sorted(
        (policy, target or "") for policy, target, _ in model.runs
    )
    turned = [run for run in runs if run.outcome is not None]
    assert {(run.outcome, run.reason) for run in turned} <= {(Outcome.REFUSED, Reason.OPEN_RUNS)}
    assert sorted(run.policy for run in turned) == sorted(model.refused)
    about = {}
    for run in open_:
        about.setdefault((run.policy, run.target or ""), []).append(
            sorted(one.alert.fingerprint for one in await world.store.episodes(run.id))
        )
    wanted = {}
    for policy, target, names in model.runs:
        wanted.setdefault((policy, target or ""), []).append(sorted(names))
    assert {key: sorted(one) for key, one in about.items()} == {
        key: sorted(one) for key, one in wanted.items()
    }
    kinds = await world.store.audit(kind="run.refused", limit=100_000)
    assert len(kinds) == len(model.refused)
    assert len(await world.store.audit(kind="run.created", limit=100_000)) == len(model.runs)
    firing = [one.alert.fingerprint for one in await world.store.find_episodes(firing=True, limit=100_000)]
    assert sorted(firing) == sorted(model.firing)
    # What has ended in the meantime is looked at, all the same.
    assert len(await world.store.claim("w", 100_000)) == len(open_)


async def _replica(database: str, clock: DrivenClock) -> World:
    async def reopen() -> None:
        raise NotImplementedError

    world = World(open_store(database, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    return world


async def test_two_replicas_take_the_same_large_body_at_once(database: str) -> None:
    clock = DrivenClock(START)
    pair = [await _replica(database, clock) for _ in range(2)]
    await pair[0].activate()
    alerts = [alert(f"a{number}") for number in range(400)]
    model = Model()
    for one in alerts:
        model.take(one)
    other = [msgspec.structs.replace(one, sender="other") for one in alerts]
    for world in pair:
        world.openings = matching
    receipts = await asyncio.gather(
        *(world.deliver(*alerts) for world in pair),
        *(world.deliver(*other, sender="other") for world in pair),
    )
    assert sum(one.accepted for one in receipts) == 800
    assert sum(one.repeated for one in receipts) == 800
    runs = await pair[0].store.find_runs(open=True, limit=100_000)
    for policy, most in POLICIES.items():
        mine = [run for run in runs if run.policy == policy]
        assert len(mine) <= most
        places = [run.target for run in mine if run.target is not None]
        assert len(places) == len(set(places))
        if policy != "s":
            assert len(mine) == most
    refused = await pair[0].store.audit(kind="run.refused", limit=100_000)
    assert len(refused) == sum(len(one.refused) for one in receipts)
    for world in pair:
        await world.store.close()
