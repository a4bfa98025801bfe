"""The only places where time comes from: the operating system, or whoever drives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from remediator.model import Instant, Millis


class SystemClock:
    """The operating system's wall clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns() // 1_000_000)


class SteadyClock(SystemClock):
    """The wall clock, but for jumps: after one it goes on as if nothing had happened, until somebody has
    taken notice. So no budget, cooldown or hold is ever counted across a jump that nobody knows of.

    Args:
        most: a difference between wall clock and passed time, in milliseconds, that is no jump.
        wall, passed: nanoseconds since 1970, and since any beginning; for tests.
    """

    def __init__(
        self,
        most: Millis,
        wall: Callable[[], int] = time.time_ns,
        passed: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._most = most * 1_000_000
        self._wall, self._passed = wall, passed
        self._last = (wall(), passed())

    def now(self) -> Instant:
        wall, passed = self._wall(), self._passed()
        before = self._last
        steady = before[0] + passed - before[1]
        if abs(wall - steady) < self._most:
            self._last = (wall, passed)
            return Instant(wall // 1_000_000)
        return Instant(steady // 1_000_000)

    def jump(self) -> Millis:
        """By how much the wall clock is ahead of this one (negative: behind); 0 where it did not jump."""
        steady = self.now()
        ahead = self._wall() // 1_000_000 - steady
        return Millis(ahead if abs(ahead) * 1_000_000 >= self._most else 0)

    def accept(self) -> None:
        """Follow the wall clock from where it is now."""
        self._last = (self._wall(), self._passed())


class DrivenClock:
    """A clock that stands still until it is moved: for policy tests, simulation and tests.

    Args:
        start: where it stands first.
    """

    def __init__(self, start: Instant) -> None:
        self._now = start

    def now(self) -> Instant:
        return self._now

    def set(self, instant: Instant) -> None:
        """Move it, in either direction."""
        self._now = instant


def beat(seconds: float) -> float:
    """The event loop's time at which the next turn of this length begins; it is the same for all who ask:
    tasks that look now and then do so together, and between their turns the process sleeps.

    Args:
        seconds: at most so far away.
    """
    now = asyncio.get_running_loop().time()
    next = (now // seconds + 1) * seconds
    return next if next > now else next + seconds  # what is not a power of two may be rounded to now
