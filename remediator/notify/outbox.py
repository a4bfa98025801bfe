"""Drains the outbox: every message reaches the log and the notifiers that its chain names.

At least once: a crash between the sending and its record sends again. What is remembered in memory
(which notifiers already have a message) only saves people from reading it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from remediator import failpoint, metrics
from remediator.contracts import Notifier, Outgoing, Store
from remediator.errors import StoreError
from remediator.model import DAY, HOUR, SECOND, AuditEvent, Instant, Millis, span
from remediator.notify.log import LogNotifier

log = structlog.get_logger("remediator.notify")

Recipients = Callable[[str], Sequence[str]]
"""A message's chain → the names of the notifiers to tell now. Unknown chains give nothing."""

GIVE_UP = Millis(DAY)
"""A message that nobody took for this long is recorded as abandoned; the log has had it all along."""
_BATCH = 50


def backoff(attempts: int) -> Millis:
    """How long to wait after this many failed attempts: 5s, 10s, 20s … at most 1h."""
    return Millis(min(HOUR, 5 * SECOND << min(max(attempts - 1, 0), 12)))


class Drain:
    """Sends what is due, for as long as the daemon runs.

    Args:
        notifiers: by name, without the log, which is always told.
        recipients: resolves a chain. A chain that is not known any more tells every notifier:
            better one call too many than none.
        idle: milliseconds between two looks at the outbox.
        grace: milliseconds that sending may still take when the daemon stops.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        recipients: Recipients,
        idle: Millis = Millis(SECOND),
        grace: Millis = Millis(2 * SECOND),
    ) -> None:
        self._store = store
        self._notifiers = notifiers
        self._recipients = recipients
        self._idle = idle
        self._grace = grace
        self._log = LogNotifier()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._told: dict[int, set[str]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Drain until cancelled; a store that does not answer only makes it wait."""
        try:
            while True:
                try:
                    await self.start_due()
                except StoreError as error:
                    log.warning("outbox.unreadable", error=str(error))
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._idle / SECOND):
                        await self._wake.wait()
        finally:
            await self._finish()

    def wake(self) -> None:
        """Look now: a message has just been written."""
        self._wake.set()

    async def once(self) -> int:
        """Send what is due now and wait for it; returns how many messages were tried."""
        started = await self.start_due()
        await self.settle()
        return started

    async def start_due(self) -> int:
        """Start what is due and not under way. Each message is a task: none waits for another."""
        due = await self._store.due_messages(_BATCH + len(self._under_way))
        fresh = [outgoing for outgoing in due if outgoing.id not in self._under_way]
        for outgoing in fresh:
            task = asyncio.create_task(self._deliver(outgoing), name=f"message-{outgoing.id}")
            self._under_way[outgoing.id] = task
            task.add_done_callback(partial(self._ended, outgoing.id))
        return len(fresh)

    async def settle(self) -> None:
        """Wait for everything under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def recipients(self, chain: str) -> list[str]:
        """The notifiers to tell for this chain, by name, without the log."""
        if not chain:
            return []
        known = [name for name in self._recipients(chain) if name in self._notifiers]
        if not known and chain in self._notifiers:
            known = [chain]
        return list(dict.fromkeys(known)) or sorted(self._notifiers)

    async def _finish(self) -> None:
        """Give what is under way a moment to be recorded; the rest is sent again after the restart."""
        tasks = list(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._grace / SECOND)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _deliver(self, outgoing: Outgoing) -> None:
        try:
            await self._attempt(outgoing)
        except StoreError as error:
            # Not recorded: it is due again, and _told keeps those who have it from a second copy.
            log.warning("outbox.not_recorded", message=outgoing.id, error=str(error))

    def _ended(self, id: int, task: asyncio.Task[None]) -> None:
        del self._under_way[id]

    async def _attempt(self, outgoing: Outgoing) -> None:
        message = outgoing.message
        told = self._told.setdefault(outgoing.id, set())
        if self._log.name not in told:
            await self._log.send(message)
            told.add(self._log.name)
        names = [name for name in message.notifiers if name in self._notifiers] or self.recipients(
            message.chain
        )
        missing = [name for name in names if name not in told]
        results = await asyncio.gather(
            *(self._notifiers[name].send(message) for name in missing), return_exceptions=True
        )
        failures: list[str] = []
        for name, result in zip(missing, results, strict=True):
            metrics.NOTIFICATIONS.labels(name, "sent" if result is None else "failed").inc()
            if result is None:
                told.add(name)
            else:
                failures.append(_failure(name, result))
        if failures:
            await self._failed(outgoing, "; ".join(failures))
            return
        failpoint.hit("outbox.after_send")
        await self._store.message_sent(outgoing.id, _event("message.sent", outgoing, sorted(told)))
        self._told.pop(outgoing.id, None)

    async def _failed(self, outgoing: Outgoing, error: str) -> None:
        now = await self._store.now()
        if now - outgoing.at >= GIVE_UP:
            log.error("outbox.abandoned", message=outgoing.id, error=error)
            event = _event("message.abandoned", outgoing, sorted(self._told.pop(outgoing.id)), error)
            await self._store.message_sent(outgoing.id, event)
            return
        wait = backoff(outgoing.attempts + 1)
        log.warning("outbox.not_sent", message=outgoing.id, error=error, again_in=span(wait))
        await self._store.message_failed(outgoing.id, Instant(now + wait), error)


def _failure(name: str, error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if name in text else f"notifier {name}: {text}"


def _event(kind: str, outgoing: Outgoing, told: Sequence[str], error: str | None = None) -> AuditEvent:
    message = outgoing.message
    return AuditEvent(
        kind=kind,
        alert=message.alert,
        run=message.run,
        observed=error,
        allowed=f"delivered within {span(GIVE_UP)}" if error else None,
        data={
            "message": outgoing.id,
            **({"incident": message.incident} if message.incident is not None else {}),
            "chain": message.chain,
            "subject": message.subject,
            "notifiers": list(told),
            "attempts": outgoing.attempts + 1,
        },
    )
