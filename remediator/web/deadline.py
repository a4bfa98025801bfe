"""One deadline for whatever is under way: a timer for each request would cost as much as to read it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

_TICK = 0.1
"""Seconds between two looks for what is late."""


class Deadline:
    """`with deadline:` bounds what a task does in the block, as `asyncio.timeout` does, up to a tick late.
    One block for each task at a time. `bound` does so to a promise that no task waits for.

    Args:
        seconds: for each block.

    Raises:
        TimeoutError: at the end of a block that was cut short.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Future[Any], float] = {}
        """In the order in which they come, since all take the same time."""
        self._ticking = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._begin(task, loop)

    def bound(self, promise: asyncio.Future[Any]) -> None:
        """Cancel a promise if it takes longer. Whoever is told of its end calls `over`."""
        self._begin(promise, asyncio.get_running_loop())

    def over(self, promise: asyncio.Future[Any]) -> None:
        """A promise has ended."""
        self._ends.pop(promise, None)

    def _begin(self, waiting: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._ends[waiting] = loop.time() + self._seconds
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK, self._tick)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        in_time = self._ends.pop(task, None) is not None
        # Cancelled by someone else as well, it is cancelled.
        if not in_time and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, end in list(self._ends.items()):
            if end > now:
                break
            del self._ends[task]
            task.cancel()
        self._ticking = bool(self._ends)
        if self._ticking:
            loop.call_later(_TICK, self._tick)
