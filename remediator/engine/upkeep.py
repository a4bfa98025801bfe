"""What the daemon does beside runs: sealing, retention, its own gauges, and watching the clock.

Each task survives a store that is away: it says so, and tries again at its next turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from remediator import metrics
from remediator.clock import SteadyClock
from remediator.contracts import Store
from remediator.engine.policies import Policies
from remediator.errors import StoreError
from remediator.model import (
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Millis,
    span,
)

log = structlog.get_logger()

JUMP = Millis(30 * SECOND)
"""A wall clock that moved by this much more or less than time did is not to be trusted with budgets."""


async def every(
    seconds: float, name: str, work: Callable[[], Awaitable[None]], sooner: asyncio.Event | None = None
) -> None:
    """Do `work` again and again until cancelled.

    Args:
        sooner: its next turn is due now.
    """
    hint = sooner or asyncio.Event()
    while True:
        hint.clear()
        try:
            await work()
        except StoreError as error:
            log.warning("upkeep.failed", task=name, error=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hint.wait()


class Sealer:
    """Seals the audit log; the chain's head also goes to the log and the metrics, as an anchor
    outside the database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._head = ""

    async def __call__(self) -> None:
        head = await self._store.seal()
        if head != self._head:
            self._head = head
            metrics.CHAIN_HEAD.info({"head": head})
            log.info("audit.sealed", head=head)


class Gauges:
    """Measures the store for /metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self) -> None:
        health = await self._store.health()
        now = await self._store.now()
        metrics.OPEN_RUNS.set(health.open_runs)
        metrics.OLDEST_DUE_SECONDS.set(_age(now, health.oldest_due_at))
        metrics.OUTBOX_AGE_SECONDS.set(_age(now, health.outbox_oldest_at))
        metrics.SEAL_LAG_SECONDS.set(_age(now, health.unsealed_oldest_at))


class Retention:
    """Deletes what is older than it need be."""

    def __init__(self, store: Store, keep: Mapping[str, Millis]) -> None:
        self._store = store
        self._keep = keep

    async def __call__(self) -> None:
        deleted = {table: count for table, count in (await self._store.prune(self._keep)).items() if count}
        if deleted:
            log.info("store.pruned", **deleted)


class ClockWatch:
    """Pauses the daemon when the wall clock jumps: budgets and cooldowns are counted by it.

    Args:
        clock: the store's, where it is ours: it shows a jump only after the pause is written. Without
            one the time is the database's, and is compared from turn to turn.
    """

    def __init__(self, store: Store, clock: SteadyClock | None = None) -> None:
        self._store = store
        self._clock = clock
        self._last: tuple[Instant, float] | None = None

    async def __call__(self) -> None:
        if self._clock is not None:
            jump = self._clock.jump()
            if jump:
                await self._pause(jump, self._clock.now())
                self._clock.accept()
            return
        wall, steady = await self._store.now(), time.monotonic()
        before, self._last = self._last, (wall, steady)
        if before is None:
            return
        jump = Millis((wall - before[0]) - round((steady - before[1]) * 1000))
        if abs(jump) >= JUMP:
            await self._pause(jump, wall)

    async def _pause(self, jump: Millis, now: Instant) -> None:
        seen = f"the clock jumped by {'-' if jump < 0 else '+'}{span(abs(jump))}"
        await self._store.set_control(
            Control(kind=ControlKind.PAUSE, scope="", reason=seen, actor="daemon", since=now),
            AuditEvent(kind="control.paused", observed=seen, allowed=f"at most {span(JUMP)}"),
        )
        log.error("clock.jumped", observed=seen, do="check the clock, then: remediator resume")


class Reloading:
    """Takes up changed policies."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def __call__(self) -> None:
        await self._policies.reload()


def _age(now: Instant, then: Instant | None) -> float:
    return max(0.0, (now - then) / 1000) if then is not None else 0.0
