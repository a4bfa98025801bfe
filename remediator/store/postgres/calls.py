"""How a call gets to PostgreSQL and back: opening, deadlines, and the watch over the server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

from remediator import failpoint, metrics
from remediator.contracts import (
    Admission,
    Claimant,
    Clock,
    Delivery,
    Hint,
    Match,
    Move,
    Receipt,
    Receiver,
    SteadyTime,
)
from remediator.errors import ConfigurationError, StoreError, StoreUnavailable
from remediator.model import Instant, Millis, Run
from remediator.store import moved, rewind
from remediator.store.limits import Limits
from remediator.store.postgres import admits as postgres_admits
from remediator.store.postgres import clock as postgres_clock
from remediator.store.postgres import moves as postgres_moves
from remediator.store.postgres import schema as postgres_schema
from remediator.store.postgres.claims import Held, Sending
from remediator.store.postgres.clock import ServerClock
from remediator.store.postgres.hints import Hints
from remediator.store.postgres.intake import IntakeLane, Taking
from remediator.store.postgres.lane import Item, Lane, unmoved
from remediator.store.postgres.link import Changed, Link, Server, tell
from remediator.store.postgres.looks import Look, Looks
from remediator.store.postgres.pool import Pool, Work, nothing
from remediator.store.postgres.seen import Seen, SharedHistory
from remediator.store.postgres.tx import PostgresTx
from remediator.store.postgres.watch import Watch
from remediator.store.sql import SqlStore
from remediator.store.tx import BRAKES, Tx, insert

T = TypeVar("T")
_THREADS = 6
_TICK = 0.1
"""Seconds between two looks for calls that have waited too long."""
_JOIN = 4.0
"""Seconds within which a replica that is alive has noticed a jump of the server's clock, and written it."""
_REMEMBER = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"
_REMEMBERED = "SELECT value FROM meta WHERE key = 'server'"


class PostgresCalls(SqlStore):
    """Opens the database, and takes pieces of work to the threads that do them.

    Args:
        address: `postgresql://…`, as libpq reads it.
        clock: None for the database's own.
    """

    def __init__(
        self,
        address: str,
        clock: Clock | None,
        receivers: Mapping[str, Receiver],
        *,
        read_only: bool,
        seal_key: bytes | None,
        limits: Limits,
    ) -> None:
        self._address = address
        self._clock = clock
        self._server_clock = ServerClock() if clock is None and not read_only else None
        self._read_only = read_only
        self._key = seal_key
        self._limits = limits
        self._seen = Seen()
        self._history = SharedHistory(receivers, self._seen)
        self._held = Held()
        self._sending = Sending()
        self._server: Server | None = None
        self._fatal: StoreUnavailable | None = None
        self._hints: Hints | None = None
        self._told: Callable[[Hint], None] | None = None
        self._waiting: dict[asyncio.Future[Any], tuple[float, float]] = {}
        self._ticking = False
        self._closed = "is not open yet"
        self.unwritable: Exception | None = None
        """As described in `contracts.Store`."""

    # ------------------------------------------------------------ opening and closing

    @property
    def fatal(self) -> StoreUnavailable | None:
        """Why this store answers nothing any more until it is opened anew; None if all is well: the
        database is another one than it was, or no longer keeps what it says."""
        return self._fatal

    @property
    def steady(self) -> SteadyTime | None:
        """As described in `contracts.Store`: None where somebody drives the clock."""
        return self._server_clock

    def hints(self, told: Callable[[Hint], None]) -> None:
        self._told = told

    async def open(self) -> None:
        """Reach the server, check that it can be trusted, make or migrate the tables.

        A database that went on elsewhere since the last time (a standby took over, a backup was put
        back) is opened paused: what was committed last may be missing from it.

        Raises:
            ConfigurationError: the address, the server's settings or the schema cannot be used.
            StoreUnavailable: the server cannot be reached.
        """
        await asyncio.to_thread(self._open)
        if not self._read_only:
            self._hints = Hints(self._link, self._teller())
            self._hints.start()
        self._pool = Pool(self._link, self._spoiled, _THREADS, "store")
        self._moves = Lane(
            self._link, self._spoiled, self._pool, "store-moves", postgres_moves.together, apart=False
        )
        self._admits = Lane(
            self._link,
            self._spoiled,
            self._pool,
            "store-admits",
            lambda tx, items: postgres_admits.together(tx, items, self._lease(tx)),
            locks=(BRAKES,),
            apart=True,
        )
        self._looks = Looks(self._intake_link, self._spoiled, self._pool)
        self._looks.start()
        self._moves.start()
        self._admits.start()
        self._lane = IntakeLane(self._answerer(), self._intake_link, self._spoiled, self._limits, self._seen)
        self._watch = Watch(
            self._link,
            self._spoiled,
            self._seen,
            self._held,
            self._limits,
            None if self._read_only else self._clock,
            self._server_clock,
            beats=not self._read_only,
        )
        self._lane.start()
        self._watch.start()
        self._closed = ""

    def _open(self) -> None:
        link = Link(
            self._address,
            self._limits,
            self._clock,
            seconds=self._limits.write,
            read_only=self._read_only,
        )
        try:
            self._server = link.server
            if self._read_only:
                postgres_schema.must_be_current(link.connection)
            else:
                postgres_schema.bring_up_to_date(link.connection)
                link.close()
                link = self._link()
                link.write(self._recognise, nothing, nothing)
                if self._server_clock is not None:
                    self._join(link, self._server_clock)
            link.tx.begin(read_only=True)
            self._seen.opened_at = link.tx.now
        except BaseException as error:
            told = tell(error)
            if told is error:
                raise
            raise told from error
        finally:
            link.close()

    def _join(self, link: Link, clock: ServerClock) -> None:
        """Live by the server's clock. Where nobody has noted lately that he does so, it may have jumped a
        moment ago: who was there before has the time to write that, and to move timers, before this one acts.
        """
        end = time.monotonic() + _JOIN
        joined = False
        while not joined:
            alone = time.monotonic() > end
            joined = link.write(
                lambda tx, alone=alone: postgres_clock.joins(tx, alone),  # type: ignore[misc]
                nothing,
                nothing,
                alone=alone,
            )
            if not joined:
                time.sleep(_TICK)
        clock.joined()

    def _recognise(self, tx: PostgresTx) -> None:
        moved.refuse(tx)
        tx.lock("recognise")
        server = self._server
        assert server is not None
        row = tx.one(_REMEMBERED)
        now = f"{server.system}:{server.timeline}"
        if row is not None and row[0] == now:
            return
        tx.run(_REMEMBER, {"key": "server", "value": now})
        if row is None:
            return
        before = Server(*row[0].split(":"))
        if before.same_as_far_as_known(server):
            return
        rewind.pause(tx, f"the database was {before} and is {server}", {"before": row[0], "now": now})

    async def close(self) -> None:
        """Write what is queued, hand back what is claimed, and let go."""
        if self._closed:
            self._closed = "is closed"
            return
        if not self._read_only and self._fatal is None:
            with contextlib.suppress(StoreError):
                await self._write(self._hand_over, self._limits.intake)
        self._closed = "is closed"
        await asyncio.to_thread(self._let_go)

    def _hand_over(self, tx: Tx) -> None:
        raise NotImplementedError

    def _let_go(self) -> None:
        self._lane.stop()
        self._looks.stop()
        self._moves.stop()
        self._admits.stop()
        self._watch.stop()
        self._pool.close()
        if self._hints is not None:
            self._hints.stop()

    def _teller(self) -> Callable[[Hint], None]:
        loop, told = asyncio.get_running_loop(), self._told

        def tell_loop(hint: Hint) -> None:
            if told is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    loop.call_soon_threadsafe(told, hint)

        return tell_loop

    def _answerer(self) -> Callable[[Sequence[Taking]], None]:
        loop = asyncio.get_running_loop()

        def answered(group: Sequence[Taking]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, group)

        return answered

    def _link(self) -> Link:
        return self._connect(self._limits.write)

    def _intake_link(self) -> Link:
        return self._connect(self._limits.intake)

    def _connect(self, seconds: float) -> Link:
        if self._fatal is not None:
            raise StoreUnavailable(str(self._fatal))
        try:
            link = Link(
                self._address,
                self._limits,
                self._clock,
                seconds=seconds,
                expected=self._server,
                read_only=self._read_only,
                server_clock=self._server_clock,
            )
            if self._hints is not None:
                link.hinted = self._hints.send
            return link
        except Changed as changed:
            self._spoiled(str(changed))
            raise StoreUnavailable(str(changed)) from changed

    def _spoiled(self, why: str) -> None:
        self._fatal = StoreUnavailable(why)

    # ------------------------------------------------------------ how calls travel

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
                loop.call_soon_threadsafe(_resolve, promise, answer, error)

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
                _resolve(promise, None, StoreUnavailable("the store did not answer in time; try again"))
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

    def _lease(self, tx: Tx) -> Instant:
        return Instant(tx.now + self._limits.lease)


def _answer(group: Sequence[Taking]) -> None:
    for taking in group:
        _resolve(taking.promise, taking.answer, taking.error)


def _resolve(promise: asyncio.Future[Any], answer: object, error: BaseException | None) -> None:
    if promise.done():
        return
    if error is not None:
        promise.set_exception(error)
    else:
        promise.set_result(answer)


def check_driver() -> None:
    """Raise ConfigurationError where the driver is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "store.url: PostgreSQL needs its driver: pip install 'remediator[postgres]'"
        ) from error
