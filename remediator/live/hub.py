"""What has just changed, for whoever looks on: hints of (kind, id), without content.

A hint says that asking again is worth while. It may come for nothing or twice, and gets lost when a client
is too slow: what is true stands in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

CLIENTS = 100
"""Clients of one process; the next is asked to come back later."""
PENDING = 1_000
"""Hints that may wait for one client; beyond it is too slow and let go of."""


class Kind(StrEnum):
    """What a hint is about."""

    RUN = "run"
    CONTROL = "control"
    EFFECT = "effect"
    INCIDENT = "incident"


Hint = tuple[Kind, int | str]


class Subscription:
    """One client's hints. Those that say the same are one."""

    def __init__(self) -> None:
        self._pending: dict[Hint, None] = {}
        self._some = asyncio.Event()
        self.over = ""
        """Why nothing more comes; "" while something may."""

    def put(self, hint: Hint) -> None:
        """Add a hint."""
        self._pending[hint] = None
        self._some.set()
        if len(self._pending) > PENDING:
            self.end("too slow: look at everything again")

    def end(self, why: str) -> None:
        """Nothing more will come."""
        self._pending.clear()
        self.over = why
        self._some.set()

    async def next(self) -> list[Hint]:
        """Wait for hints; none when it is over."""
        await self._some.wait()
        self._some.clear()
        found, self._pending = list(self._pending), {}
        return found


class Hub:
    """Where changes are told, and who hears of them."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.relay: Callable[[Hint], None] | None = None
        """Tells the other replicas, where they can be reached."""
        self.anyone = asyncio.Event()
        """Set while there is a client, for whom the other replicas are listened to."""
        self._closed = ""

    def tell(self, kind: Kind, id: int | str) -> None:
        """Something has changed here. To be called in the event loop, after the commit."""
        hint = (kind, id)
        if self.relay is not None:
            self.relay(hint)
        self.heard(hint)

    def heard(self, hint: Hint) -> None:
        """Something has changed, here or elsewhere."""
        for one in tuple(self._subscriptions):
            one.put(hint)
            if one.over:
                self.leave(one)

    def join(self) -> Subscription | None:
        """A new client; None if there are too many, or the daemon stops."""
        if self._closed or len(self._subscriptions) >= CLIENTS:
            return None
        made = Subscription()
        self._subscriptions.add(made)
        self.anyone.set()
        return made

    def leave(self, one: Subscription) -> None:
        """The client is gone."""
        self._subscriptions.discard(one)
        if not self._subscriptions:
            self.anyone.clear()

    def close(self) -> None:
        """End every subscription: the daemon stops."""
        self._closed = "the daemon stops"
        for one in tuple(self._subscriptions):
            one.end(self._closed)
            self.leave(one)
