"""Runs a synchronous call in a thread, with a deadline that holds even if the call hangs.

A hung thread cannot be killed. It keeps its place among `most`, so that a provider that hangs
for ever cannot eat the process; its late answer is handed to whoever asked to be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from remediator.errors import Temporary

T = TypeVar("T")
Late = Callable[[object | None, BaseException | None], None]


class Calls(Protocol):
    """Whatever takes calls out of the event loop's way; see `Threads.call`."""

    async def call(self, work: Callable[[], T], timeout: float, late: Late | None = None) -> T: ...


class Threads:
    """A thread for each call under way, and none is ever shared with a hung one. Those that have
    done their call wait for the next: to start one costs more than a run has time for.

    Args:
        most: how many calls may be under way, hung ones included.
    """

    def __init__(self, most: int = 64) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._most = most
        self._idle: list[_Thread] = []

    async def call(self, work: Callable[[], T], timeout: float, late: Late | None = None) -> T:
        """Run `work` and return its value.

        Args:
            timeout: seconds to wait for it.
            late: called in the event loop with (value, error) if it ends after the timeout.

        Raises:
            TimeoutError: it has not ended; it may still.
            Temporary: too many calls hang already; this one was not started.
        """
        if not self._free.acquire(blocking=False):
            raise Temporary(
                f"{self._most} calls are under way or hang: not started; see the log for which do not answer"
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        ended = False

        def expire() -> None:
            # In a process that stood still, the answer and the deadline come at once: what is known counts.
            if not ended and not done.done():
                done.set_exception(TimeoutError())

        def deliver(value: T | None, error: BaseException | None) -> None:
            if done.done():  # too late, or the caller has gone
                if late is not None:
                    late(value, error)
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)  # type: ignore[arg-type]

        def run(thread: _Thread) -> None:
            nonlocal ended
            value: T | None = None
            error: BaseException | None = None
            try:
                value = work()
            except BaseException as raised:  # noqa: BLE001 - carried to the caller, who interprets it
                error = raised
            finally:
                self._idle.append(thread)  # before the call's place is free: so there are at most `most`
                self._free.release()
                ended = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(deliver, value, error)

        try:
            thread = self._idle.pop()  # the latest to end: its memory is warm
        except IndexError:
            thread = _Thread()
        try:
            thread.do(run)
        except RuntimeError as error:  # the process may have no more threads
            self._free.release()
            raise Temporary(f"not started: {error}; see the limits of the daemon's process") from error
        deadline = loop.call_later(timeout, expire)
        try:
            return await done
        finally:
            deadline.cancel()


class _Thread:
    """Does one piece of work after another, each of which it is handed only when it has none."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[_Thread], None]] = queue.SimpleQueue()
        self._started = False

    def do(self, work: Callable[[_Thread], None]) -> None:
        """Raises RuntimeError if no thread can be started."""
        if not self._started:
            threading.Thread(target=self._run, daemon=True, name="call").start()
            self._started = True
        self._work.put(work)

    def _run(self) -> None:
        while True:
            self._work.get()(self)
