"""Durations as policies write them: `30s`, `5m`, `2h`, `7d`, `1m30s`, in milliseconds.

The syntax is that of Prometheus (https://prometheus.io/docs/prometheus/latest/configuration/configuration/#duration)
without weeks and years, of which nobody knows how long they are. `model.span` is the way back.
"""

from __future__ import annotations

import re

from remediator.model import DAY, HOUR, MINUTE, SECOND, Millis

LONGEST = Millis(366 * DAY)
_SYNTAX = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_SIZES = (DAY, HOUR, MINUTE, SECOND, 1)


def parse(text: str) -> Millis:
    """Read a duration.

    Args:
        text: numbers with units, largest first, each unit once: `1h30m`.

    Returns:
        Milliseconds, from 0 to 366 days.

    Raises:
        ValueError: it is not a duration, or longer than 366 days.
    """
    found = _SYNTAX.fullmatch(text) if text and len(text) <= 40 else None
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s")
    total = sum(int(count) * size for count, size in zip(found.groups(), _SIZES, strict=True) if count)
    if total > LONGEST:
        raise ValueError(f"{text[:40]!r} is too long; the longest duration is 366d")
    return Millis(total)
