"""What the daemon does beside runs: sealing, retention, its own gauges, and watching the clock.

Each raises what it meets; `engine.task` lets it go on.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence

import structlog

from remediator import metrics
from remediator.clock import SteadyClock, SystemClock
from remediator.contracts import Store
from remediator.engine import storm
from remediator.engine.policies import Policies
from remediator.errors import StoreError
from remediator.model import (
    DAEMON,
    JUMP,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Message,
    Millis,
    Severity,
    span,
)

log = structlog.get_logger()

_PROBE = 5.0
"""Seconds between two probes of a store that takes writes."""
_ROOM = 65_536
"""Bytes that a store must take before it is believed to take writes again: a full disk still has
place for a few in blocks that the log owns already, and would be ready and not ready in turns."""
_MEASURED = (
    metrics.OPEN_RUNS,
    metrics.OLDEST_DUE_SECONDS,
    metrics.OUTBOX_AGE_SECONDS,
    metrics.SEAL_LAG_SECONDS,
)


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


class Probe:
    """Writes something now and then, so that /readyz and the metrics know whether the store takes
    writes although nothing comes in, and learn that it does again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0.0

    async def __call__(self) -> None:
        store, now = self._store, asyncio.get_running_loop().time()
        try:
            if store.unwritable is not None:
                await store.probe(_ROOM)
            elif now >= self._next:
                self._next = now + _PROBE
                await store.probe()
        finally:
            metrics.STORE_UP.set(store.unwritable is None and store.fatal is None)


class Gauges:
    """Measures the store for /metrics. What could not be measured is NaN: a number from before would
    say that all is well for as long as the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = SystemClock()
        self._broken: set[str] = set()

    async def __call__(self) -> None:
        try:
            health = await self._store.health()
            now = await self._store.now()
        except StoreError:
            for gauge in _MEASURED:
                gauge.set(math.nan)
            raise
        metrics.STORE_MEASURED_TIMESTAMP_SECONDS.set(self._clock.now() / SECOND)
        metrics.OPEN_RUNS.set(health.open_runs)
        metrics.OLDEST_DUE_SECONDS.set(_age(now, health.oldest_due_at))
        metrics.OUTBOX_AGE_SECONDS.set(_age(now, health.outbox_oldest_at))
        for notifier in await self._store.notifiers():
            metrics.NOTIFIER_FAILING.labels(notifier.name).set(int(notifier.told_at is not None))
        metrics.SEAL_LAG_SECONDS.set(_age(now, health.unsealed_oldest_at))
        self._brakes(await self._store.controls())

    def _brakes(self, on: Sequence[Control]) -> None:
        for kind in ControlKind:
            metrics.BRAKES.labels(kind.value).set(sum(control.kind is kind for control in on))
        broken = {one.scope.removeprefix("policy:") for one in on if one.kind is ControlKind.BREAKER}
        for policy in self._broken - broken:
            metrics.BREAKER_OPEN.labels(policy).set(0)
        for policy in broken:
            metrics.BREAKER_OPEN.labels(policy).set(1)
        self._broken = broken


class StormWatch:
    """Notices a storm of alerts within a second or so, also where no policy matches any of them."""

    def __init__(self, store: Store, policies: Policies) -> None:
        self._store = store
        self._policies = policies

    async def __call__(self) -> None:
        if self._policies.current is None:
            return
        rule = self._policies.current.limits.storm
        now = await self._store.now()
        counts = await self._store.arrivals(Instant(now - rule.within - 10 * SECOND))
        for sender, own in itertools.groupby(counts, key=lambda one: one.sender):
            found = storm.raging(own, rule, now)
            if found is not None:
                control, event, message = storm.told(rule, sender, *found, now)
                if await self._store.trip(control, event, (message,)):
                    log.warning("storm.tripped", sender=sender, observed=control.reason)


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
    """Pauses the daemon when the wall clock jumps: budgets and cooldowns are counted by it. Timers are moved
    along, and the store shows the jump only after that is written.

    Args:
        clock: the store's, where it is ours. Without one the time is that of the store's server; or somebody
            drives it, then it is compared from turn to turn and timers stay.
    """

    def __init__(self, store: Store, clock: SteadyClock | None = None) -> None:
        self._store = store
        self._clock = clock
        self._last: tuple[Instant, float] | None = None

    async def __call__(self) -> None:
        clock = self._clock or self._store.steady
        if clock is not None:
            jump = clock.jump()
            if jump:
                await self._pause(jump, clock.now())
            return
        wall, steady = await self._store.now(), asyncio.get_running_loop().time()
        before = self._last
        if before is not None:
            jump = Millis((wall - before[0]) - round((steady - before[1]) * 1000))
            if abs(jump) >= JUMP and not await self._said(wall):
                await self._pause(jump, wall)
        # Not sooner: a pause that could not be written is tried again at the next turn.
        self._last = (wall, steady)

    async def _said(self, now: Instant) -> bool:
        """Whether another replica, which sees the same clock, has just said it."""
        return any(
            brake.kind is ControlKind.PAUSE
            and (brake.scope, brake.actor) == ("", "daemon")
            and abs(brake.since - now) < JUMP
            for brake in await self._store.controls()
        )

    async def _pause(self, jump: Millis, now: Instant) -> None:
        seconds = Millis(round(abs(jump) / SECOND) * SECOND)  # nobody knows it to the millisecond
        seen = f"the clock jumped by {'-' if jump < 0 else '+'}{span(seconds)}"
        control = Control(kind=ControlKind.PAUSE, scope="", reason=seen, actor="daemon", since=now)
        event = AuditEvent(kind="control.paused", observed=seen, allowed=f"at most {span(JUMP)}")
        body = (
            f"Seen: {seen}; at most {span(JUMP)} is no jump\n"
            "Budgets and cooldowns are counted by the clock. Alerts are taken, nothing new acts.\n"
            'Look: check the clock, then remediator resume --comment "clock checked"'
        )
        told = Message(
            chain=DAEMON, severity=Severity.P1, subject=f"[P1] remediator paused: {seen}", body=body
        )
        if self._clock is not None or self._store.steady is not None:
            await self._store.jumped(jump, control, event, (told,), self._clock)
        else:
            await self._store.set_control(control, event, (told,))
        log.error("clock.jumped", observed=seen, do="check the clock, then: remediator resume")


class Reloading:
    """Takes up changed policies."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def __call__(self) -> None:
        await self._policies.reload()


def _age(now: Instant, then: Instant | None) -> float:
    return max(0.0, (now - then) / 1000) if then is not None else 0.0
