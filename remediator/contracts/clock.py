"""Where time comes from."""

from __future__ import annotations

from typing import Protocol

from remediator.model import Instant


class Clock(Protocol):
    """Where time comes from. Nothing else in the package asks the operating system."""

    def now(self) -> Instant: ...
