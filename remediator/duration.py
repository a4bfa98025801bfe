"""Durations as people write them in policies, settings and parameters: `30s`, `5m`, `1m30s`, in milliseconds.

The syntax is that of Prometheus (https://prometheus.io/docs/prometheus/latest/configuration/configuration/#duration)
without weeks and years, of which nobody knows how long they are. `model.span` is the way back.
"""

from __future__ import annotations

import re

from remediator.model import DAY, HOUR, MINUTE, SECOND, Millis, span

LONGEST = Millis(366 * DAY)
_SYNTAX = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_SIZES = (DAY, HOUR, MINUTE, SECOND, 1)


def parse(text: str, longest: Millis = LONGEST) -> Millis:
    """Read a duration.

    Args:
        text: numbers with units, largest first, each unit once: `1h30m`.
        longest: milliseconds; a policy has no use for more than a year, a retention has.

    Returns:
        Milliseconds, from 0 to `longest`.

    Raises:
        ValueError: it is not a duration, or longer than `longest`.
    """
    found = _SYNTAX.fullmatch(text) if text and len(text) <= 40 else None
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s")
    total = sum(int(count) * size for count, size in zip(found.groups(), _SIZES, strict=True) if count)
    if total > longest:
        raise ValueError(f"{text[:40]!r} is too long; the longest duration is {span(longest)}")
    return Millis(total)
