"""What takes too long is cut short, and only that."""

from __future__ import annotations

import asyncio

import pytest

from remediator.web.deadline import Deadline


async def test_what_is_late_is_cut_short_and_what_is_in_time_is_not() -> None:
    deadline = Deadline(0.2)
    released = asyncio.Event()

    async def waits() -> None:
        with deadline:
            await released.wait()

    async def answers() -> str:
        with deadline:
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)  # outside of it, it takes its time
        return "answered"

    loop = asyncio.get_running_loop()
    begun = loop.time()
    late, other, answered = await asyncio.gather(waits(), waits(), answers(), return_exceptions=True)
    assert isinstance(late, TimeoutError)
    assert isinstance(other, TimeoutError)
    assert answered == "answered"
    assert loop.time() - begun >= 0.5
    with deadline:  # and it begins anew
        await asyncio.sleep(0)


async def test_a_task_that_was_cut_short_goes_on_as_any_other() -> None:
    deadline = Deadline(0.1)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            with deadline:
                await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_someone_else_cancels_is_cancelled() -> None:
    deadline = Deadline(60)

    async def waits() -> None:
        with deadline:
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_promise_is_cancelled_when_its_time_is_over_and_not_once_it_has_ended() -> None:
    deadline = Deadline(0.1)
    loop = asyncio.get_running_loop()
    late: asyncio.Future[str] = loop.create_future()
    kept: asyncio.Future[str] = loop.create_future()
    deadline.bound(late)
    deadline.bound(kept)
    deadline.over(kept)
    with pytest.raises(asyncio.CancelledError):
        await late
    assert not kept.done()
