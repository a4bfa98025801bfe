"""Bounds on how often."""

from __future__ import annotations

from remediator.model.time import Millis, span
from remediator.model.value import Struct


class Budget(Struct, frozen=True, kw_only=True):
    """At most `count` within any `window` milliseconds (a sliding window)."""

    count: int
    window: Millis

    def __str__(self) -> str:
        return f"{self.count} per {span(self.window)}"
