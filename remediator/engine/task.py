"""The tasks of a daemon: each goes on after a fault, with back-off, and says so until it is well again.

A store that is away is no fault: what works with it says so and tries again at its next turn. Anything else
is a fault of this program. Nobody watches a daemon at night, so its task is started anew; it is no less
loud for that: a traceback in the log each time, `remediator_task_failures_total`, /readyz and `status` for as
long as it lasts, and an alert.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from remediator import metrics
from remediator.clock import beat
from remediator.errors import StoreError

log = structlog.get_logger()

Work = Callable[[], Awaitable[None]]

WORKER, CLOCK, REDIS = "worker", "clock", "redis"

VITAL = frozenset({WORKER, CLOCK})
"""Without these it does not act, or acts by a clock that nobody watches: not ready, and in the end ended."""

PATIENCE = 60.0
"""Seconds for which a vital task may fail without one good turn; a fresh process is tried then."""
MANY = 3
"""Faults in a row that it takes besides."""
LONGEST = 60.0
"""Seconds between two tries, at most."""
SOUND = 10.0
"""Seconds for which a task that has no turns has to run to be well again."""


class Task:
    """One task: what has become of it.

    Args:
        name: also in the log and the metrics.
        told: of each fault, besides.
    """

    def __init__(self, name: str, told: Callable[[Exception], None] = lambda _error: None) -> None:
        self.name = name
        self._told = told
        self.running: asyncio.Task[None] | None = None
        self._faults = 0
        self._since = 0.0
        self._seen = ""
        metrics.TASK_FAILURES.labels(name)
        metrics.TASK_FAILING.labels(name).set(0)

    @property
    def vital(self) -> bool:
        return self.name in VITAL

    @property
    def fault(self) -> str:
        """What is wrong with it; "" if nothing is. Never what the error said: it may hold anything."""
        if self.running is not None and self.running.done():
            return f"its {self.name} task has ended; see the log, and restart it"
        if not self._faults:
            return ""
        times = "once" if self._faults == 1 else f"{self._faults} times in a row"
        return f"its {self.name} task failed {times}, last with {self._seen}; see task.failed in the log"

    def hopeless(self, patience: float = PATIENCE) -> bool:
        """Whether it is vital, and has failed for so many seconds that the process is of no more use."""
        now = asyncio.get_running_loop().time()
        return self.vital and self._faults >= MANY and now - self._since >= patience

    def failed(self, error: Exception) -> float:
        """It failed; returns in how many seconds to try again."""
        if not self._faults:
            self._since = asyncio.get_running_loop().time()
        self._faults += 1
        self._seen = type(error).__name__
        metrics.TASK_FAILURES.labels(self.name).inc()
        metrics.TASK_FAILING.labels(self.name).set(1)
        again = min(LONGEST, 2.0 ** min(self._faults - 1, 10))
        log.error("task.failed", task=self.name, times=self._faults, again_in=again, exc_info=error)
        self._told(error)
        return again

    def well(self) -> None:
        """It has done what it is for."""
        if self._faults:
            log.info("task.recovered", task=self.name, after=self._faults)
            metrics.TASK_FAILING.labels(self.name).set(0)
            self._faults = 0

    def every(self, seconds: float, work: Work, sooner: asyncio.Event | None = None) -> None:
        """Begin to do `work` at each turn until cancelled.

        Args:
            seconds: between two turns, at most.
            sooner: its next turn is due now; after a fault that has to wait too.
        """
        self._start(self._every(seconds, work, sooner or asyncio.Event()))

    def forever(self, work: Work) -> None:
        """Begin what runs until cancelled, and anew when it fails."""
        self._start(self._forever(work))

    def once(self, work: Work) -> None:
        """Do what is done at the start only, and then stand like the others."""

        async def standing() -> None:
            await work()
            self.well()
            await asyncio.Event().wait()

        self.forever(standing)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.running = asyncio.create_task(work, name=self.name)

    async def _every(self, seconds: float, work: Work, hint: asyncio.Event) -> None:
        while True:
            hint.clear()
            try:
                await work()
                self.well()
            except StoreError as error:
                log.warning("upkeep.failed", task=self.name, error=str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next turn may be better
                await asyncio.sleep(self.failed(error))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat(seconds)):
                    await hint.wait()

    async def _forever(self, work: Work) -> None:
        while True:
            sound = asyncio.get_running_loop().call_later(SOUND, self.well)
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may be better
                again = self.failed(error)
            finally:
                sound.cancel()
            await asyncio.sleep(again)


async def ended(tasks: Sequence[Task], times: int = 10) -> None:
    """Cancel tasks until they have ended: a cancellation can meet the very moment in which what the
    task waited for is done, and be lost.

    Args:
        times: how often, a second apart, one is cancelled before it is left as it is.
    """
    left = {one.running for one in tasks if one.running is not None}
    for _ in range(times):
        if not left:
            return
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)
    if left:
        log.warning("tasks.left", tasks=sorted(task.get_name() for task in left))
