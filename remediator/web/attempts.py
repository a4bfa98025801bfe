"""Failed logins of each address, in memory: guessing tokens must not be quick."""

from __future__ import annotations

import math
from collections import OrderedDict, deque

MOST = 5
WITHIN = 60.0
"""Seconds."""
_ADDRESSES = 10_000


class Attempts:
    """At most `MOST` failures of one address within `WITHIN` seconds; then it has to wait."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> int:
        """Seconds until this address may try again; 0 if it may now.

        Args:
            now: on a clock that only goes forward.
        """
        failures = self._failures.get(address, deque())
        while failures and failures[0] <= now - WITHIN:
            failures.popleft()
        return max(1, math.ceil(failures[0] + WITHIN - now)) if len(failures) >= MOST else 0

    def failed(self, address: str, now: float) -> None:
        """Count a failure. The addresses that failed longest ago are forgotten first."""
        self._failures.setdefault(address, deque(maxlen=MOST)).append(now)
        self._failures.move_to_end(address)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)
