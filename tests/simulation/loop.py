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
        self.queue: deque[Due] = deque()
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


class Due:
    """A callback that is due in some process, now or at a time. (An asyncio.TimerHandle, and lighter.)"""

    __slots__ = ("_args", "_callback", "_context", "_gone", "_when", "host")

    def __init__(
        self, host: Host, when: float, callback: Any, args: tuple[Any, ...], context: Context
    ) -> None:
        self.host = host
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context
        self._gone = False

    def cancel(self) -> None:
        self._gone = True
        self._callback, self._args = None, ()

    def cancelled(self) -> bool:
        return self._gone

    def when(self) -> float:
        return self._when


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
        self._timers: list[tuple[float, int, Due]] = []
        self.outside = Host("outside")
        self.hosts: list[Host] = [self.outside]
        self.steps = 0
        self.over = False
        self._ended = False
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

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        if context is None:
            context = copy_context()
        host = context.get(HOST, self.outside)
        due = Due(host, self._time, callback, args, context)
        if not host.dead and not self.over:
            host.queue.append(due)
        return due

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        if context is None:
            context = copy_context()
        due = Due(context.get(HOST, self.outside), when, callback, args, context)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, due))
        return due

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(
            self._time + delay if delay > 0.0 else self._time, callback, *args, context=context
        )

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
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

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # ------------------------------------------------------------ running

    def run_forever(self) -> None:
        """Until `stop`, or until nothing is due any more."""
        random, before = self._random.random, asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while not self._ended:
                ready = [host for host in self.hosts if host.queue and not host.frozen]
                if not ready:
                    self._leap()
                    continue
                host = ready[0] if len(ready) == 1 else ready[int(random() * len(ready))]
                due = host.queue.popleft()
                if due._gone:
                    continue
                self.steps += 1
                try:
                    due._context.run(due._callback, *due._args)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # noqa: BLE001 - a fault of the simulation or of the engine
                    self._escaped(self, {"message": f"callback {due._callback}", "exception": error})
        finally:
            self._ended = False
            asyncio._set_running_loop(before)

    def stop(self) -> None:
        self._ended = True

    def _leap(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._gone:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is due, ever")
        self._time = now = max(self._time, timers[0][0])
        while timers and timers[0][0] <= now:
            due = heapq.heappop(timers)[2]
            if not due._gone and not due.host.dead and not self.over:
                due.host.queue.append(due)

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        where = "".join(traceback.format_exception(error)[-3:]) if error is not None else ""
        self.faults.append(f"{context.get('message')}: {where}")
        self.stop()

    def fault(self, error: Exception) -> None:
        """A daemon would go on after it; here it is one fault too many."""
        self._escaped(self, {"message": "a task failed", "exception": error})

    def unasked(self, host: Host) -> None:
        """Tasks that failed, and nobody has asked why."""
        for task in host.tasks:
            if task.done() and task._log_traceback:
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
                        task.get_coro().close()
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
