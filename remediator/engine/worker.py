"""The worker: claims runs that are due and advances each, side by side.

One advance never blocks another. Nothing is kept between advances: what must last is in the row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from remediator.contracts import LOOK, Facts, Store
from remediator.engine.advance import advance, fault, write
from remediator.engine.case import Case, Tools
from remediator.engine.orphan import orphaned, stand_in
from remediator.engine.policies import Policies
from remediator.errors import ConfigurationError, LeaseLost, StoreError, StoreUnavailable
from remediator.model import SECOND, Run, RunId

log = structlog.get_logger()

_BREATH = 0.02
"""Seconds to leave to what has just been claimed; and, where every place was taken, to those that become
free, so that one claim fills several."""

_GRACE = 2.5
"""Seconds for which nothing is claimed after the store was away: leases may have run out meanwhile, and
whoever holds the outcome of a call tries every second to write it. It comes first."""


class Worker:
    """Runs until stopped.

    Args:
        name: this process among the replicas.
        most: runs advanced side by side.
        idle: seconds between looks when nothing is due: a safety net, for every wake-up has its own hint.
    """

    def __init__(
        self, name: str, tools: Tools, policies: Policies, most: int = 32, idle: float = LOOK / SECOND
    ) -> None:
        self._name = name
        self._tools = tools
        self._policies = policies
        self._most = most
        self._idle = idle
        self._wake = asyncio.Event()
        self._stopping = False
        self._away = False
        self._broken = False
        """Its last turn ended with a fault, and it has claimed nothing since."""
        self._busy: set[asyncio.Task[None]] = set()
        self._handing: set[asyncio.Task[None]] = set()

    @property
    def _store(self) -> Store:
        return self._tools.store

    def wake(self, within: float = 0) -> None:
        """Something may be due within so many seconds. If that is after the next look of a worker that
        nobody wakes, that look finds it: alerts that are to be held cost no look each."""
        if within < self._idle:
            self._wake.set()

    @property
    def name(self) -> str:
        """As it claims."""
        return self._name

    def room(self) -> int:
        """How many new runs it would begin at once. Half of its places are left to what is due already:
        what is claimed in between is not counted yet. None for one that is broken: it is not ready."""
        if self._stopping or self._away or self._broken or not self._policies.usable:
            return 0
        return max(0, self._most // 2 - len(self._busy))

    def take(self, runs: Sequence[Run]) -> None:
        """Advance what was claimed for it along with a delivery; what it has no place for it hands back."""
        room = 0 if self._stopping else max(0, self._most - len(self._busy))
        for run in runs[:room]:
            self._begin(run)
        if runs[room:]:
            task = asyncio.create_task(self._hand_back(runs[room:]), name="hand-back")
            self._handing.add(task)
            task.add_done_callback(self._handing.discard)

    async def run(self) -> None:
        """Claim and advance until `stop`."""
        while not self._stopping:
            self._wake.clear()
            try:
                if self._away:
                    await self._store.next_due()  # raises while it still is
                    await asyncio.sleep(_GRACE)
                    self._away = False
                room = self._most - len(self._busy)
                claimed = await self.step()
                if claimed >= room:
                    continue
                # What was claimed wakes us when it is through; asking for more at once would only
                # compete with it.
                pause = _BREATH if claimed else await self._until_due()
            except StoreUnavailable as error:
                log.warning("store.unavailable", error=str(error))
                pause, self._away = 1.0, True
            except Exception:
                self._broken = True
                raise
            if not self._stopping:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    def rest(self) -> None:
        """Claim no more; what is under way goes on."""
        self._stopping = True
        self.wake()

    async def stop(self, patience: float) -> None:
        """Claim no more; let what is under way finish for `patience` seconds, then let go of it.

        What is let go of is a row like any other: the next process takes it from there.
        """
        self.rest()
        if self._busy:
            _, left = await asyncio.wait(self._busy, timeout=patience)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def step(self) -> int:
        """Claim what there is room for and start advancing it; returns how many."""
        room = self._most - len(self._busy)
        if room <= 0:
            await asyncio.wait(self._busy, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(_BREATH)
            return 1
        if not self._policies.usable:
            return 0  # a process that cannot load the active policies claims nothing
        runs = await self._store.claim(self._name, room)
        self._broken = False
        if self._stopping:  # since the claim was asked for: nothing may begin that nobody waits for
            await self._store.release(runs)
            return 0
        facts = await self._facts(runs)
        for run in runs:
            self._begin(run, facts.get(run.id))
        return len(runs)

    def _begin(self, run: Run, facts: Facts | None = None) -> None:
        task = asyncio.create_task(self.advance(run, facts), name=f"run-{run.id}")
        self._busy.add(task)
        task.add_done_callback(self._done)

    async def _hand_back(self, runs: Sequence[Run]) -> None:
        with contextlib.suppress(StoreUnavailable):  # then their leases run out
            await self._store.release(runs)
        self.wake()

    async def drain(self) -> None:
        """Advance until nothing is due: for driven clocks."""
        while await self.step() or self._busy:
            if self._busy:
                await asyncio.wait(set(self._busy))

    async def _facts(self, runs: Sequence[Run]) -> Mapping[RunId, Facts]:
        """What is known about them, in one read. Where that fails each reads for itself: what cannot be
        read of one is no fault of the others."""
        try:
            return await self._store.facts(runs) if runs else {}
        except Exception as error:  # noqa: BLE001 - it comes again where it is dealt with
            log.debug("facts.unread", error=str(error))
            return {}

    async def advance(self, run: Run, facts: Facts | None = None) -> None:
        """Advance one claimed run for as long as it is ours; the worker's edge, where no fault may escape."""
        with structlog.contextvars.bound_contextvars(
            run=run.id, alert=run.alert, policy=run.policy, target=run.target
        ):
            case: Case | None = None
            try:
                kept = True
                while kept:
                    case, unreadable = await self._case(run, facts)
                    if unreadable:
                        moved = await write(case, orphaned(case, unreadable))
                    else:
                        moved = await advance(case)
                    kept = moved.epoch != run.epoch
                    run, case, facts = moved, None, None
                    if kept and self._stopping:
                        await self._store.release([run])
                        break
            except LeaseLost:
                log.warning("lease.lost", run=run.id)
            except StoreUnavailable as error:
                log.warning("store.unavailable", run=run.id, error=str(error))
                await self._let_go(run)
            except Exception as error:
                log.exception("engine.fault", run=run.id)
                await self._after_fault(run, case, error)

    async def _case(self, run: Run, facts: Facts | None = None) -> tuple[Case, str]:
        """The run with all that it may look at; and why its policy cannot be read, if it cannot."""
        active = self._policies.current
        if active is None:
            raise ConfigurationError("no policies are loaded")
        unreadable = ""
        try:
            policy = (await self._policies.revision(run.policy_revision)).policies[run.policy]
        except ConfigurationError as error:
            policy, unreadable = stand_in(active, run.policy), str(error)
        if facts is None:
            facts = (await self._store.facts([run]))[run.id]
        case = Case(
            run=run,
            policy=policy,
            active=active,
            episodes=facts.episodes,
            intents=facts.intents,
            controls=facts.controls,
            now=facts.now,
            tools=self._tools,
        )
        return case, unreadable

    async def _after_fault(self, run: Run, case: Case | None, error: Exception) -> None:
        try:
            if case is None:
                await asyncio.sleep(1)  # its rows cannot be read: do not spin on it
                await self._store.release([run])
                return
            latest = await self._store.run(run.id)
            intents = tuple(await self._store.intents(run.id))  # it may have been admitted since
            case = replace(case.at(latest.state, latest.progress), intents=intents)
            await write(case, fault(case, error))
        except StoreError as second:
            log.warning("engine.fault_not_written", run=run.id, error=str(second))

    async def _let_go(self, run: Run) -> None:
        with contextlib.suppress(StoreUnavailable, LeaseLost):
            await asyncio.sleep(1)
            await self._store.release([run])

    async def _until_due(self) -> float:
        due = await self._store.next_due()
        if due is None:
            return self._idle
        return min(self._idle, max(0.001, (due - await self._store.now()) / 1000))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._wake.set()
