"""The only places where time comes from: the operating system, or whoever drives it."""

from __future__ import annotations

import time

from remediator.model import Instant


class SystemClock:
    """The operating system's wall clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns() // 1_000_000)


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
