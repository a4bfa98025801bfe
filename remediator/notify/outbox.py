"""Drains the outbox: every message reaches the log and the notifiers that it is for.

At least once to each: a crash between the sending and its record sends again. What is remembered in
memory (what went out and is not recorded yet) only saves people from reading it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from remediator import failpoint, metrics
from remediator.clock import beat
from remediator.contracts import Notifier, NotifierState, Outgoing, Store
from remediator.errors import NotFound, StoreError
from remediator.model import (
    DAY,
    MINUTE,
    SECOND,
    AuditEvent,
    Instant,
    Message,
    Millis,
    Severity,
    span,
)
from remediator.notify.log import LogNotifier

log = structlog.get_logger("remediator.notify")

Recipients = Callable[[str], Sequence[str]]
"""A message's chain → the names of the notifiers to tell now. Unknown chains give nothing."""

GIVE_UP = Millis(DAY)
"""A message that its notifier has not taken for this long is recorded as abandoned; the log has had it."""
FAILING_AFTER = Millis(10 * MINUTE)
PATIENCE = Millis(30 * SECOND)
"""How long one try may take; a replica has a message for longer than that."""
_LONGEST = Millis(10 * MINUTE)
_BATCH = 200
_SIDE_BY_SIDE = 4
"""Messages that one notifier is given at a time."""


def backoff(attempts: int) -> Millis:
    """How long a message waits after this many failed tries: 5s, 10s, 20s … at most 10m."""
    return Millis(min(_LONGEST, 5 * SECOND << min(max(attempts - 1, 0), 12)))


class Drain:
    """Sends what is due, for as long as the daemon runs.

    Args:
        notifiers: by name, without the log, which is always told.
        recipients: resolves a chain. A chain that is not known any more tells every notifier:
            better one call too many than none.
        outside: the notifiers of customers: they get only what is made for them.
        idle: milliseconds between two looks at the outbox.
        grace: milliseconds that sending may still take when the daemon stops.
        failing_after: milliseconds after which a notifier that delivers nothing is told to the others.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        recipients: Recipients,
        *,
        outside: Sequence[str] = (),
        idle: Millis = Millis(SECOND),
        grace: Millis = Millis(2 * SECOND),
        failing_after: Millis = FAILING_AFTER,
        patience: Millis = PATIENCE,
    ) -> None:
        self._store = store
        self._notifiers = notifiers
        self._recipients = recipients
        self._outside = frozenset(outside)
        self._idle = idle
        self._grace = grace
        self._failing_after = failing_after
        self._patience = patience
        self._log = LogNotifier()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._telling: set[tuple[str | None, int | None]] = set()
        """The notifiers that are being told of an incident: of each one thing at a time."""
        self._unrecorded: set[int] = set()
        # Not the same set: the first notifier's row is the one that was spread, under the same id.
        self._logged: set[int] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Drain until cancelled; a store that does not answer only makes it wait."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self.start_due()
                except StoreError as error:
                    log.warning("outbox.unreadable", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(beat(self._idle / SECOND)):
                        await self._wake.wait()
        finally:
            await self._finish()

    def wake(self) -> None:
        """Look now: a message has just been written."""
        self._wake.set()

    async def once(self) -> int:
        """Send what is due now and wait for it; returns how many messages were tried, by notifier."""
        spread = await self.start_due()
        await self.settle()
        tried = await self.start_due() if spread else 0
        await self.settle()
        return max(spread, tried)

    async def start_due(self) -> int:
        """Start what is due and not under way; returns how much. Each message is a task: none waits for
        another, and a notifier that hangs keeps only its own."""
        due = await self._store.due_messages(_BATCH + len(self._under_way))
        started = 0
        for one in due:
            if one.id in self._under_way:
                continue
            if one.notifier is None:
                self._start(one, self._spread(one))
            elif self._busy[one.notifier] < _SIDE_BY_SIDE and not self._telling & _of(one):
                self._logged.discard(one.id)
                self._busy[one.notifier] += 1
                self._telling |= _of(one)
                self._start(one, self._deliver(one, one.notifier))
            else:
                continue
            started += 1
        return started

    async def settle(self) -> None:
        """Wait for everything under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def recipients(self, message: Message) -> list[str]:
        """The notifiers that a message is for, by name, without the log."""
        if message.notifiers:
            return [name for name in dict.fromkeys(message.notifiers) if name in self._notifiers]
        if not message.chain:
            return []
        ours = [name for name in self._notifiers if name not in self._outside]
        known = [name for name in self._recipients(message.chain) if name in ours]
        if not known and message.chain in ours:
            known = [message.chain]
        return list(dict.fromkeys(known)) or sorted(ours)

    # ------------------------------------------------------------ one message

    def _start(self, one: Outgoing, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"message-{one.id}")
        self._under_way[one.id] = task
        task.add_done_callback(partial(self._ended, one))

    def _ended(self, one: Outgoing, task: asyncio.Task[None]) -> None:
        del self._under_way[one.id]
        if one.notifier is not None:
            self._busy[one.notifier] -= 1
            self._telling -= _of(one)
        if not task.cancelled() and (error := task.exception()) is not None:
            metrics.TASK_FAILURES.labels("outbox").inc()
            log.error("outbox.fault", message=one.id, exc_info=error)
            return  # not at once: it would fail again and again without a pause
        self._wake.set()

    async def _spread(self, one: Outgoing) -> None:
        """Write it to the log, and a row for each notifier that it is for."""
        try:
            if one.id not in self._logged:
                await self._log.send(one.message)
                self._logged.add(one.id)
            names = self.recipients(one.message)
            if names:
                await self._store.spread_message(one.id, names)
            else:
                failpoint.hit("outbox.after_send")
                await self._store.message_sent(one.id, _event("message.sent", one, [self._log.name]))
            self._logged.discard(one.id)
        except StoreError as error:
            await self._not_recorded(one, error)

    async def _deliver(self, one: Outgoing, name: str) -> None:
        try:
            if one.id not in self._unrecorded:
                error = await self._send(one, name)
                metrics.NOTIFICATIONS.labels(name, "failed" if error else "sent").inc()
                if error:
                    await self._failed(one, name, error)
                    return
                self._unrecorded.add(one.id)
                failpoint.hit("outbox.after_send")
            state = await self._store.message_sent(one.id, _event("message.sent", one, [name]))
            self._unrecorded.discard(one.id)
            if state is not None and state.told_at is not None:
                await self._recovered(state, one.message)
        except StoreError as error:
            await self._not_recorded(one, error)

    async def _send(self, one: Outgoing, name: str) -> str:
        """Why it was not delivered; "" if it was. What a notifier raises is its own affair."""
        notifier = self._notifiers.get(name)
        if notifier is None:
            return f"no notifier is named {name} in the settings any more"
        try:
            async with asyncio.timeout(self._patience / SECOND):
                await notifier.send(one.message)
        except TimeoutError:
            return f"notifier {name}: no answer within {span(self._patience)}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the message was not delivered
            text = str(error) or type(error).__name__
            return text if name in text else f"notifier {name}: {text}"
        return ""

    async def _not_recorded(self, one: Outgoing, error: StoreError) -> None:
        """It is due again; a message that went out is only recorded then."""
        if isinstance(error, NotFound):  # another replica has it behind it
            self._unrecorded.discard(one.id)
            self._logged.discard(one.id)
            return
        log.warning("outbox.not_recorded", message=one.id, error=str(error))
        await asyncio.sleep(self._idle / SECOND)

    async def _failed(self, one: Outgoing, name: str, error: str) -> None:
        now = await self._store.now()
        if now - one.at >= GIVE_UP or name not in self._notifiers:
            log.error("outbox.abandoned", message=one.id, error=error)
            before = Instant(now - GIVE_UP) if name in self._notifiers else now
            event = _event("message.abandoned", one, [name], error)
            count = await self._store.abandon_messages(name, before, event)
            metrics.NOTIFICATIONS.labels(name, "abandoned").inc(count)
            return
        wait = backoff(one.attempts + 1)
        log.warning("outbox.not_sent", message=one.id, error=error, again_in=span(wait))
        state = await self._store.message_failed(one.id, Instant(now + wait), error)
        if state is None or state.told_at is not None or state.failing_since is None:
            return
        if now - state.failing_since >= self._failing_after:
            await self._say(state, one.message, now - state.failing_since)

    # ------------------------------------------------------------ a notifier that fails

    async def _say(self, state: NotifierState, message: Message, elapsed: int) -> None:
        """A dead pager is itself a matter for the others."""
        seen = f"nothing delivered for {span(elapsed // 1000 * 1000)}: {state.error}"
        body = (
            f"Notifier: {state.name}\nSeen: {seen}\nNot delivered, among others: {message.subject}\n"
            "It is tried again until it delivers. Until then tell people another way."
        )
        await self._store.tell_notifier(
            state.name,
            True,
            AuditEvent(
                kind="notifier.failing",
                observed=seen,
                allowed=f"a delivery within {span(self._failing_after)}",
                data={"notifier": state.name},
            ),
            (self._about(state.name, message, f"NOTIFIER FAILING: {state.name}", body),),
        )
        self.wake()

    async def _recovered(self, state: NotifierState, message: Message) -> None:
        body = f"Notifier: {state.name}\nSeen: it delivers again; what waited for it follows"
        await self._store.tell_notifier(
            state.name,
            False,
            AuditEvent(kind="notifier.recovered", data={"notifier": state.name}),
            (self._about(state.name, message, f"NOTIFIER RECOVERED: {state.name}", body),),
        )
        self.wake()

    def _about(self, name: str, message: Message, subject: str, body: str) -> Message:
        """To those whom the message was for too, or else to everyone of ours."""
        ours = [one for one in self._notifiers if one not in self._outside and one != name]
        others = [one for one in self.recipients(message) if one in ours]
        return Message(
            chain="", severity=Severity.P2, subject=subject, body=body, notifiers=tuple(others or ours)
        )

    async def _finish(self) -> None:
        """Give what is under way a moment to be recorded; the rest is sent again after the restart."""
        tasks = list(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._grace / SECOND)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _of(one: Outgoing) -> set[tuple[str | None, int | None]]:
    """Whom it tells of which incident; empty where it is about none."""
    return set() if one.message.incident is None else {(one.notifier, one.message.incident)}


def _event(kind: str, one: Outgoing, told: Sequence[str], error: str | None = None) -> AuditEvent:
    message = one.message
    return AuditEvent(
        kind=kind,
        alert=message.alert,
        run=message.run,
        observed=error,
        allowed=f"delivered within {span(GIVE_UP)}" if error else None,
        data={
            "message": one.id,
            **({"incident": message.incident} if message.incident is not None else {}),
            "chain": message.chain,
            "subject": message.subject,
            "notifiers": list(told),
            "attempts": one.attempts + 1,
        },
    )
