"""How a call gets to PostgreSQL and back, within its time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

from remediator import failpoint, metrics
from remediator.contracts import Admission, Claimant, Delivery, Match, Move, Receipt
from remediator.errors import StoreError, StoreUnavailable
from remediator.model import Instant, Millis, Run
from remediator.store.postgres.intake import Taking
from remediator.store.postgres.lane import Item, Lane, unmoved
from remediator.store.postgres.looks import Look
from remediator.store.postgres.opening import PostgresOpening, resolve
from remediator.store.postgres.pool import Work, nothing
from remediator.store.postgres.tx import PostgresTx

T = TypeVar("T")
_TICK = 0.1
"""Seconds between two looks for calls that have waited too long."""


class PostgresCalls(PostgresOpening):
    """Takes pieces of work to the threads that do them, and brings back what came of it."""

    async def now(self) -> Instant:
        """The database's clock: as it said within the last second, and the time that went by since,
        or its answer now."""
        self._check_open()
        if self._clock is not None:
            return self._clock.now()
        told = self._watch.now()
        return told if told is not None else await self._read(lambda tx: tx.now)

    def told(self) -> Instant | None:
        self._check_open()
        return self._clock.now() if self._clock is not None else self._watch.now()

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | asyncio.Future[Receipt]:
        # Whoever claims first has what it opens: another replica may be the less busy one.
        self._check_writable()
        promise = self._promise(self._limits.intake)
        promise.add_done_callback(partial(self._offered, time.perf_counter()))
        self._lane.put(Taking(delivery, match, time.monotonic() + self._limits.intake, promise))
        return promise

    def _offered(self, begun: float, promise: asyncio.Future[Receipt]) -> None:
        metrics.STORE["accept"].observe(time.perf_counter() - begun)
        if not promise.cancelled() and isinstance(error := promise.exception(), StoreUnavailable):
            self.unwritable = error

    async def _write(
        self,
        work: Callable[[PostgresTx], T],
        seconds: float | None = None,
        *,
        sync: bool = True,
        point: str = "",
        qualifier: str = "",
        settled: Work | None = None,
        alone: bool = False,
    ) -> T:
        """As for every engine. Args: settled: as in `Pool.write`. alone: as for `PostgresTx.begin`."""
        self._check_writable()
        wait = self._limits.write if seconds is None else seconds
        before = after = nothing
        if point:

            def before() -> None:
                failpoint.hit(f"{point}.before_commit", qualifier)

            def after() -> None:
                failpoint.hit(f"{point}.after_commit", qualifier)

        deadline = time.monotonic() + wait
        with metrics.STORE[point or "write"].time():
            future = self._pool.write(
                work, deadline, settled=settled, before=before, after=after, alone=alone
            )
            return cast(T, await self._written(self._awaited(future, wait)))

    async def _written(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except StoreUnavailable as error:
            self.unwritable = error
            raise

    async def _grouped(
        self,
        lane: Lane,
        work: Callable[[PostgresTx], T],
        run: Run,
        *,
        point: str,
        qualifier: str,
        settled: Work,
        ids: Mapping[str, int],
        wanted: Move | Admission,
        by: Callable[[PostgresTx], Millis] = unmoved,
    ) -> T:
        """One transaction, together with what other runs write at the same time."""
        self._check_writable()
        wait = self._limits.write
        item = Item(
            work,
            run,
            time.monotonic() + wait,
            settled=settled,
            before=lambda: failpoint.hit(f"{point}.before_commit", qualifier),
            after=lambda: failpoint.hit(f"{point}.after_commit", qualifier),
            ids=ids,
            wanted=wanted,
            by=by,
        )
        with metrics.STORE[point].time():
            return cast(T, await self._written(self._awaited(lane.put(item), wait)))

    async def _read(self, work: Callable[[PostgresTx], T], seconds: float | None = None) -> T:
        self._check_open()
        wait = self._limits.write if seconds is None else seconds
        with metrics.STORE["read"].time():
            return cast(T, await self._awaited(self._pool.read(work, time.monotonic() + wait), wait))

    async def _look(self, work: Callable[[PostgresTx], T]) -> T:
        self._check_open()
        wait = self._limits.intake
        with metrics.STORE["read"].time():
            return cast(T, await self._awaited(self._looks.put(Look(work, time.monotonic() + wait)), wait))

    async def _awaited(self, future: Future[Any], seconds: float) -> Any:
        loop = asyncio.get_running_loop()
        promise = self._promise(seconds)

        def done(inner: Future[Any]) -> None:
            if inner.cancelled():
                return
            error = inner.exception()
            answer = None if error is not None else inner.result()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(resolve, promise, answer, error)

        future.add_done_callback(done)
        try:
            return await promise
        finally:
            future.cancel()  # what has not begun need not; what is under way ends by itself

    def _promise(self, seconds: float) -> asyncio.Future[Any]:
        """A future that fails by itself when its time is up, or when the server has been silent."""
        if len(self._waiting) >= self._limits.queue:
            raise StoreUnavailable(
                f"{len(self._waiting)} calls wait for the store already (at most {self._limits.queue}); "
                "try again"
            )
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[Any] = loop.create_future()
        now = loop.time()
        self._waiting[promise] = (now + self._limits.intake, now + seconds)
        promise.add_done_callback(lambda one: self._waiting.pop(one, None))
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK, self._tick)
        return promise

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        silent = self._watch.silent > self._limits.intake
        for promise, (patience, deadline) in list(self._waiting.items()):
            if now >= deadline or (silent and now >= patience):
                resolve(promise, None, StoreUnavailable("the store did not answer in time; try again"))
        self._ticking = bool(self._waiting)
        if self._ticking:
            loop.call_later(_TICK, self._tick)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store {self._closed}")
        if self._fatal is not None:
            raise StoreUnavailable(str(self._fatal))

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise StoreError("the store is open for reading only; ask the running daemon (--server)")

    def _reckoned(self) -> Callable[[PostgresTx], Millis]:
        """By how much timers have been moved since now, when a transaction begins: its caller has reckoned by
        the time as it was before."""
        before = self._server_clock.moved if self._server_clock is not None else 0
        return lambda tx: Millis(tx.moved - before)
