"""Runs that are a worker's as soon as they are opened. A store need not give any; the rules are the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from remediator.contracts import Claimant, Opening, Receipt
from remediator.errors import LeaseLost
from remediator.model import MINUTE, SECOND, Alert, Instant, Run, State, Status
from tests.store.world import START, World, alert, delivery, opening


@dataclass
class Worker:
    """One with so many free places."""

    places: int
    name: str = "w"

    def room(self) -> int:
        return self.places


def opens(one: Alert, now: Instant) -> Sequence[Opening]:
    return (opening(target=one.fingerprint, open_runs=1_000),)


def held(one: Alert, now: Instant) -> Sequence[Opening]:
    return (opening(target=one.fingerprint, next_at=Instant(now + MINUTE)),)


async def begun(world: World, worker: Claimant, *names: str) -> Receipt:
    alerts = tuple(alert(name) for name in names)
    return await world.store.accept(delivery(alerts, world.now), opens, worker)


async def test_who_is_given_runs_has_them_as_if_he_had_claimed_them(world: World) -> None:
    receipt = await begun(world, Worker(2), "a", "b", "c")
    assert len(receipt.runs) == 3
    assert len(receipt.claimed) <= 2
    left = list(await world.store.claim("other", 9))
    assert sorted(run.id for run in (*receipt.claimed, *left)) == sorted(receipt.runs)
    assert receipt.due is not None or not left
    for run in (*receipt.claimed, *left):
        assert run == await world.store.run(run.id)
        assert (run.epoch, run.state) == (1, State.GUARD)
        assert (await world.move(run, State.GUARD)).id == run.id
        with pytest.raises(LeaseLost):  # it is handed back
            await world.move(run, State.GUARD)


async def test_what_nobody_goes_on_with_is_claimed_anew_when_its_lease_is_over(world: World) -> None:
    receipt = await begun(world, Worker(9), "a", "b")
    await world.store.claim("other", 9)
    world.later(29 * SECOND)
    assert await world.store.claim("other", 9) == []
    world.later(2 * SECOND)
    again = await world.store.claim("other", 9)
    assert sorted(run.id for run in again) == sorted(receipt.runs)
    for run in receipt.claimed:
        with pytest.raises(LeaseLost):
            await world.move(run, State.GUARD)


async def test_what_is_handed_back_is_due(world: World) -> None:
    receipt = await begun(world, Worker(9), "a", "b")
    await world.store.release(receipt.claimed)
    assert {run.id for run in await world.store.claim("other", 9)} == set(receipt.runs)


async def test_only_what_is_new_and_due_is_given(world: World) -> None:
    worker = Worker(9)
    waits = await world.store.accept(delivery((alert("held"),), world.now), held, worker)
    assert (waits.claimed, waits.due) == ((), START + MINUTE)
    assert (await begun(world, Worker(0), "full")).claimed == ()
    assert (await world.store.accept(delivery((alert("alone"),), world.now), opens)).claimed == ()
    taken = [run.id for run in await world.store.claim("other", 9)]
    assert len(taken) == 2
    world.openings = opens
    joins = await world.store.accept(
        delivery((alert("more"),), world.now), lambda _alert, _now: (opening(target="full"),), worker
    )
    assert (joins.claimed, set(joins.runs) <= set(taken)) == ((), True)
    ends = await world.store.accept(delivery((alert("full", Status.RESOLVED),), world.now), opens, worker)
    assert (ends.claimed, ends.due) == ((), world.now)


async def test_deliveries_at_the_same_moment_give_no_run_twice(world: World) -> None:
    receipts = await asyncio.gather(
        *(begun(world, Worker(3, name=f"w{number % 2}"), f"a{number}", f"b{number}") for number in range(20))
    )
    given = [run.id for receipt in receipts for run in receipt.claimed]
    left = [run.id for run in await world.store.claim("other", 99)]
    assert sorted(given + left) == sorted(id for receipt in receipts for id in receipt.runs)
    assert len(given) == len(set(given))


@dataclass
class Gone(Worker):
    """Its caller gives up while the delivery is written."""

    asked: threading.Event = field(default_factory=threading.Event)
    promise: asyncio.Future[Receipt] | None = None

    def room(self) -> int:
        self.asked.wait()
        assert self.promise is not None
        self.promise.get_loop().call_soon_threadsafe(self.promise.cancel)
        return self.places


async def test_what_was_opened_for_who_gave_up_is_due(file_world: World) -> None:
    """The caller is gone when the commit comes: the runs do not wait for a lease that nobody uses."""
    worker, store = Gone(9), file_world.store
    promise = store.offer(delivery((alert("a"), alert("b")), file_world.now), opens, worker)
    assert isinstance(promise, asyncio.Future)
    worker.promise = promise
    worker.asked.set()
    with pytest.raises(asyncio.CancelledError):
        await promise
    claimed: list[Run] = []
    async with asyncio.timeout(120):
        while len(claimed) < 2:
            await asyncio.sleep(0.01)
            claimed += await store.claim("other", 9)
    assert {run.epoch for run in claimed} == {3}  # given, handed back, claimed
