"""Instants and spans, in integer milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NewType

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""
Millis = NewType("Millis", int)
"""A span of time in milliseconds."""
SECOND = Millis(1_000)
MINUTE = Millis(60_000)
HOUR = Millis(3_600_000)
DAY = Millis(86_400_000)
JUMP = Millis(30 * SECOND)
"""A clock that moved by this much more or less than time did is not to be trusted with budgets."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at: Instant) -> str:
    """2026-01-15T10:11:12.345Z"""
    found = _EPOCH + timedelta(milliseconds=at)
    return found.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def span(millis: int) -> str:
    """A span as people write it: 90000 → `1m30s`, 7200000 → `2h`."""
    if millis == 0:
        return "0s"
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
