"""A worker that waits is woken by what is due before it would look by itself, and by nothing else."""

from __future__ import annotations

import asyncio

from tests.engine.world import Rig


async def test_only_what_is_due_before_the_next_look_wakes_a_worker() -> None:
    async with Rig() as r:
        looks = 0
        claim = r.link.claim

        async def counted(worker: str, limit: int) -> object:
            nonlocal looks
            looks += 1
            return await claim(worker, limit)

        r.link.claim = counted  # type: ignore[attr-defined]
        waiting = asyncio.create_task(r.worker.run())
        await _idle()
        assert looks == 1
        r.worker.wake(within=3600)
        await _idle()
        assert looks == 1
        for number, within in enumerate((4.9, 0), start=2):
            r.worker.wake(within)
            await _idle()
            assert looks == number
        r.worker.rest()
        await waiting


async def _idle() -> None:
    """Let the worker go as far as it can: the store in memory answers at once."""
    for _ in range(50):
        await asyncio.sleep(0)
