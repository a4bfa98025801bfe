"""Flood limits: how many bodies a sender may post within a while, counted over all replicas.

Whether a body is taken is decided by numbers in memory: this process's own count, and what the others
last said of theirs. Telling each other happens beside (`exchange`). So Redis is never on the way of an
alert; between two exchanges replicas may together take more than the limit, and each never more than it.
"""

from __future__ import annotations

from collections.abc import Mapping

from remediator.contracts import Clock
from remediator.model import Budget, Instant, Millis

SLOTS = 10
"""Parts of the window that are counted by themselves; a body is forgotten with its part."""


class Window:
    """The bodies of one sender within its window, own and others'."""

    def __init__(self, limit: Budget) -> None:
        self.limit = limit
        self.span = max(1, limit.window // SLOTS)
        """Milliseconds of a slot. Slots are numbered from 1970, so that replicas mean the same ones."""
        self.own: dict[int, int] = {}
        self.others: dict[int, int] = {}
        self.total = 0
        self.refused = 0
        """Bodies refused since this was last asked and set to 0."""
        self.touched = False
        """Whether a body came since the last exchange."""
        self._slot = -1

    def take(self, now: Instant) -> Millis:
        """Count one body. Returns 0 if it may be taken, else the milliseconds until one may."""
        slot = now // self.span
        if slot != self._slot:
            self.turn(slot)
        self.touched = True
        if self.total < self.limit.count:
            self.own[slot] = self.own.get(slot, 0) + 1
            self.total += 1
            return Millis(0)
        self.refused += 1
        oldest = min((*self.own, *self.others), default=slot)
        return Millis(max(1, (oldest + SLOTS + 1) * self.span - now))

    def learn(self, others: Mapping[int, int], now: Instant) -> None:
        """Believe what the other replicas said, slot by slot."""
        self.others = dict(others)
        self.turn(now // self.span)

    def turn(self, slot: int) -> None:
        """Forget what has left the window. One slot more than the window has is kept: rather one body
        too few than one too many."""
        self._slot = slot
        oldest, newest = slot - SLOTS, slot + 1  # a replica's clock may be a little ahead
        self.own = {at: count for at, count in self.own.items() if oldest <= at <= newest}
        self.others = {at: count for at, count in self.others.items() if oldest <= at <= newest}
        self.total = sum(self.own.values()) + sum(self.others.values())


class Flood:
    """The windows of the senders that have a limit."""

    def __init__(self, limits: Mapping[str, Budget], clock: Clock) -> None:
        self._clock = clock
        self.windows = {sender: Window(limit) for sender, limit in limits.items()}

    def refuse(self, sender: str) -> Millis:
        """Count one body of a sender. Returns 0 if it may be taken, else how long it should wait."""
        window = self.windows.get(sender)
        return Millis(0) if window is None else window.take(self._clock.now())

    def limit(self, sender: str) -> str:
        """The limit as it stands in settings."""
        return str(self.windows[sender].limit)
