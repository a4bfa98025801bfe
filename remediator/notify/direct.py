"""Pages people without the outbox when the store is gone: nothing else can be written down then.

Every replica that finds the store gone says so for itself, by name: none can know of the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from remediator import metrics
from remediator.contracts import Notifier, Store
from remediator.model import SECOND, Message, Millis, Severity, span
from remediator.notify.log import LogNotifier

log = structlog.get_logger("remediator.notify")

PATIENCE = 30.0
"""Seconds for one notifier."""


class StorePager:
    """Looks whether the store takes writes, each time it is called; never waits for a notifier.

    Args:
        names: whom to page.
        replica: this process among the replicas.
        after: how long the store must have been gone.
        again: after that long the page is repeated.
        clock: seconds, never set back.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        names: Sequence[str],
        replica: str,
        after: Millis,
        again: Millis,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._notifiers = notifiers
        self._names = names
        self._replica = replica
        self._after = after / SECOND
        self._again = again / SECOND
        self._clock = clock
        self._gone_since: float | None = None
        self._paged_at: float | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self) -> None:
        now, why = self._clock(), self._store.unwritable
        if why is None:
            if self._paged_at is not None and self._gone_since is not None:
                self._page(*self._back(now - self._gone_since))
            self._gone_since = self._paged_at = None
            return
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < self._after:
            return
        if self._paged_at is None or now - self._paged_at >= self._again:
            self._paged_at = now
            self._page(*self._gone(now - self._gone_since, why))

    async def settle(self) -> None:
        """Wait for the pages under way."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    def _gone(self, elapsed: float, why: Exception) -> tuple[str, str]:
        return (
            f"STORE GONE: remediator on {self._replica}",
            f"Service: remediator on {self._replica}\n"
            f"Status: its store has taken no write for {_span(elapsed)}: {why}\n"
            "Impact: alerts are answered 503, so their senders keep them; nothing new acts\n"
            "ETA: unknown\n"
            "Next Steps: bring the store back; what was under way is recorded then, and nothing is lost",
        )

    def _back(self, elapsed: float) -> tuple[str, str]:
        return (
            f"STORE BACK: remediator on {self._replica}",
            f"Service: remediator on {self._replica}\n"
            f"Status: its store takes writes again, after {_span(elapsed)}",
        )

    def _page(self, subject: str, body: str) -> None:
        message = Message(
            chain="", severity=Severity.P1, subject=subject, body=body, notifiers=tuple(self._names)
        )
        for notifier in (LogNotifier(), *(self._notifiers[name] for name in self._names)):
            task = asyncio.create_task(self._send(notifier, message), name=f"page-{notifier.name}")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _send(self, notifier: Notifier, message: Message) -> None:
        result = "sent"
        try:
            async with asyncio.timeout(PATIENCE):
                await notifier.send(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, this one was not told
            result = "failed"
            log.error("page.not_sent", notifier=notifier.name, error=str(error) or type(error).__name__)
        if notifier.name != LogNotifier.name:
            metrics.NOTIFICATIONS.labels(notifier.name, result).inc()


def _span(seconds: float) -> str:
    return span(int(seconds) * SECOND)
