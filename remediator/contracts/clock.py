"""Where time comes from."""

from __future__ import annotations

from typing import Protocol

from remediator.model import Instant, Millis


class Clock(Protocol):
    """Where time comes from. Nothing else in the package asks the operating system."""

    def now(self) -> Instant: ...


class Jumping(Protocol):
    """A clock that is held back when the wall clock jumps, until it is told to follow."""

    def jump(self) -> Millis:
        """By how much the wall clock is ahead (negative: behind); 0 where it did not jump."""

    def accept(self) -> None:
        """Follow the wall clock from where it is now."""


class SteadyTime(Clock, Protocol):
    """The clock of a store's server, held back when it jumps until that is written."""

    def jump(self) -> Millis:
        """By how much the server's clock was ahead (negative: behind) when it was looked at last; 0 where it
        did not jump."""
