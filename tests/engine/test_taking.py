"""Runs that the worker is given along with the delivery that opens them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from remediator.contracts import Store
from remediator.engine.worker import Worker
from remediator.model import MINUTE, Instant, Run
from tests.crash.daemon import Around
from tests.engine.world import START, Rig


def worker(r: Rig, most: int) -> Worker:
    return Worker("small", r.worker._tools, r.policies, most=most)


async def given(r: Rig, *groups: str) -> Sequence[Run]:
    for group in groups:
        await r.fire(group=group)
    r.clock.set(Instant(START + 5 * MINUTE))  # their hold is over
    runs = await r.store.claim("small", 9)
    assert len(runs) == len(groups)
    return runs


async def test_it_has_room_for_half_of_its_places_and_none_once_it_rests() -> None:
    async with Rig() as r:
        small = worker(r, 8)
        assert small.room() == 4
        small.take(await given(r, "a"))
        assert small.room() == 3
        small.rest()
        assert small.room() == 0
        await small.stop(30)


class Faulty(Around):
    """A store that nobody can claim from while it is told so."""

    broken = True

    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        if self.broken:
            raise TypeError("in claim")
        return await self._store.claim(worker, limit)


async def test_it_has_no_room_from_a_fault_of_its_own_until_it_has_claimed_again() -> None:
    async with Rig() as r:
        store = Faulty(r.store)
        small = Worker("small", replace(r.worker._tools, store=cast(Store, store)), r.policies, most=8)
        assert small.room() == 4
        with pytest.raises(TypeError):
            await small.run()
        assert small.room() == 0
        store.broken = False
        await small.step()
        assert small.room() == 4


async def test_what_it_is_given_it_advances_at_once() -> None:
    async with Rig() as r:
        small = worker(r, 8)
        small.take(await given(r, "gpu"))
        await small.drain()
        assert [group for group, _, _ in r.world.calls] == ["gpu"]


async def test_what_it_has_no_place_for_is_due_at_once() -> None:
    async with Rig() as r:
        small = worker(r, 2)
        runs = await given(r, "a", "b", "c")
        small.take(runs)
        again = list(await r.store.claim("other", 9))
        while not again:
            await asyncio.sleep(0)
            again += await r.store.claim("other", 9)
        assert [(run.id, run.epoch) for run in again] == [(runs[2].id, runs[2].epoch + 2)]
        await small.stop(30)


async def test_one_that_rests_hands_back_what_it_is_given() -> None:
    async with Rig() as r:
        small = worker(r, 2)
        runs = await given(r, "a")
        small.rest()
        small.take(runs)
        again = list(await r.store.claim("other", 9))
        while not again:
            await asyncio.sleep(0)
            again += await r.store.claim("other", 9)
        assert r.world.calls == []
