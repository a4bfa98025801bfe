"""An event loop on virtual time, for several processes at once.

Each process (`Host`) has a queue of its own, first in, first out, as asyncio promises within a process.
Which process goes next is drawn from the seed, as an operating system and a network promise nothing. A
process can be killed (nothing of it runs any more, not even a `finally`) and frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import traceback
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

HOST: ContextVar[Host] = ContextVar("host")


class Host:
    """One process, or one part of the world outside that goes on by itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[events.Handle] = deque()
        self.dead = False
        self.frozen = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.context: Context = copy_context()
        self.context.run(HOST.set, self)

    def kill(self) -> None:
        """As kill -9: whatever it was about to do is not done."""
        self.dead = True
        self.queue.clear()

    @property
    def running(self) -> bool:
        return not self.dead and not self.frozen

    def __repr__(self) -> str:
        return f"Host({self.name})"


class Stuck(Exception):
    """Nothing is left to wait for."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks one by one; time stands still while any can run, and then leaps to the next timer.

    Args:
        random: decides which process goes next.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._time = 0.0
        self._serial = 0
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self.outside = Host("outside")
        self.hosts: list[Host] = [self.outside]
        self.steps = 0
        self.over = False
        self._everyone = [self.outside]
        self.faults: list[str] = []
        """What escaped from a callback: a fault of the simulation or of the engine."""
        self.set_task_factory(_task)  # type: ignore[arg-type]
        self.set_exception_handler(self._escaped)

    def host(self, name: str) -> Host:
        """A new process."""
        host = Host(name)
        self.hosts = [other for other in self.hosts if not other.dead]
        self.hosts.append(host)
        self._everyone.append(host)
        return host

    def spawn(self, host: Host, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Start a task in a process."""
        return self.create_task(work, name=name or None, context=host.context.copy())

    # ------------------------------------------------------------ what asyncio asks of a loop

    def time(self) -> float:
        return self._time

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self._call_soon(callback, args, context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        timer = events.TimerHandle(when, callback, args, self, context)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, timer))
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._time + max(0.0, delay), callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """A thread that has its answer a moment later."""
        future = self.create_future()

        def run() -> None:
            try:
                value = func(*args)
            except Exception as error:  # noqa: BLE001 - carried to whoever waits
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(value)

        self.call_later(self._random.random() * 0.01, run)
        return future

    def _timer_handle_cancelled(self, handle: Any) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # ------------------------------------------------------------ running

    def _enqueue(self, handle: events.Handle) -> None:
        if self.over:
            return
        context = handle._context  # type: ignore[attr-defined]
        host = context.get(HOST, self.outside)
        if not host.dead:
            host.queue.append(handle)

    def _run_once(self) -> None:
        ready = [host for host in self.hosts if host.queue and not host.frozen and not host.dead]
        if not ready:
            self._leap()
            return
        host = ready[0] if len(ready) == 1 else ready[int(self._random.random() * len(ready))]
        handle = host.queue.popleft()
        if not handle.cancelled():
            self.steps += 1
            handle._run()

    def _leap(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is due, ever")
        self._time = max(self._time, timers[0][0])
        while timers and timers[0][0] <= self._time:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                self._enqueue(timer)

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        where = "".join(traceback.format_exception(error)[-3:]) if error is not None else ""
        self.faults.append(f"{context.get('message')}: {where}")
        self.stop()

    def unasked(self, host: Host) -> None:
        """Tasks that failed, and nobody has asked why."""
        for task in host.tasks:
            if task.done() and task._log_traceback:  # type: ignore[attr-defined]
                error = task.exception()
                self._escaped(self, {"message": f"task {task.get_name()} of {host.name}", "exception": error})

    def check(self) -> None:
        """Whether any task of any process failed unnoticed."""
        for host in self._everyone:
            self.unasked(host)

    def end(self) -> None:
        """Let go of every task of every process, in order, and of the loop."""
        self.over = True
        for host in self._everyone:
            for task in host.tasks:
                if not task.done():
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()  # type: ignore[union-attr]
            host.tasks.clear()
            host.queue.clear()
        self._timers.clear()
        self.close()


def _task(loop: SimulatedLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    context = options.get("context")
    host = context.get(HOST, loop.outside) if context is not None else HOST.get(loop.outside)
    tasks = host.tasks
    tasks.append(task)
    if len(tasks) > 200:
        loop.unasked(host)
        host.tasks = [one for one in tasks if not one.done()]
    return task
