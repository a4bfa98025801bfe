"""How a call gets to an SQLite file and back: opening, threads, deadlines."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from remediator import metrics
from remediator.contracts import Claimant, Clock, Delivery, Hint, Match, Receipt, Receiver
from remediator.errors import StoreError, StoreUnavailable
from remediator.model import Instant
from remediator.store import claims, moved, rewind, upgrade
from remediator.store.history import History
from remediator.store.intake import Intake
from remediator.store.known import LAST_FORGOTTEN, LOAD
from remediator.store.limits import Limits
from remediator.store.rejected import Rejected
from remediator.store.sqlite.file import Lock, check_place, connect, unavailable
from remediator.store.sqlite.queue import Call, Promise, Taking
from remediator.store.sqlite.threads import Checkpoints, Readers, WriterThread, truncate
from remediator.store.sqlite.tx import SqliteTx
from remediator.store.sqlite.writer import Group
from remediator.store.tx import Tx

T = TypeVar("T")
_TICK = 0.1
"""Seconds between two looks for calls that have waited too long."""
_OLDEST = (3, 35, 0)
"""The first SQLite that knows RETURNING."""


class SqliteCalls:
    """Opens the file, and takes pieces of work to the thread that does them.

    With a file, one thread writes and a few read. Without one (in memory), everything happens at
    once in the caller's thread, so that a simulation is repeatable.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Clock,
        receivers: Mapping[str, Receiver],
        *,
        read_only: bool,
        seal_key: bytes | None,
        limits: Limits,
    ) -> None:
        self._path = path
        self._clock = clock
        self._read_only = read_only
        self._key = seal_key
        self._limits = limits
        self._rejected = Rejected(limits)
        self._sealing = asyncio.Lock()
        self._intake = Intake(limits, self._rejected)
        self._history = History(receivers, None if read_only else self._intake.known)
        self._lock: Lock | None = None
        self._tx: SqliteTx | None = None
        self._group: Group | None = None
        self._writer: WriterThread | None = None
        self._readers: Readers | None = None
        self._checkpoints: Checkpoints | None = None
        self._waiting: dict[float, deque[tuple[float, asyncio.Future[object]]]] = {}
        self._ticking = False
        self._closed = "is not open yet"
        self.unwritable: Exception | None = None
        """As described in `contracts.Store`."""

    # ------------------------------------------------------------ opening and closing

    @property
    def fatal(self) -> StoreUnavailable | None:
        """Why this store answers nothing any more until it is opened anew; None if all is well.
        After a commit or a sync that failed, nobody can know what the disk holds."""
        return self._group.fatal if self._group is not None else None

    def hints(self, told: Callable[[Hint], None]) -> None:
        """One process only: there is none."""

    async def open(self) -> None:
        """Take the file, make or migrate its tables, load the open alerts.

        Raises:
            ConfigurationError: the place or the schema cannot be used.
            StoreUnavailable: another process holds it, or SQLite cannot read it.
        """
        if self._path is None:
            self._open()
        else:
            await asyncio.to_thread(self._open)
            if not self._read_only:
                self._start()
        self._closed = ""

    def _start(self) -> None:
        assert self._checkpoints is not None
        self._writer = WriterThread(self._groups(), asyncio.get_running_loop(), self._checkpoints)
        self._writer.start()
        self._checkpoints.start()

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed")
        try:
            if self._read_only:
                self._open_beside()
            else:
                self._open_as_owner()
        except sqlite3.Error as error:
            self._let_go()
            raise unavailable(error, self._path) from error
        except BaseException:
            self._let_go()
            raise

    def _open_beside(self) -> None:
        assert self._path is not None
        if not self._path.exists():
            raise StoreUnavailable(f"there is no store at {self._path}; start the daemon, or check store.url")
        connection = connect(self._path, read_only=True)
        try:
            upgrade.must_be_current(connection)
        finally:
            connection.close()
        self._readers = Readers(self._path, self._clock, threads=1)

    def _open_as_owner(self) -> None:
        if self._path is not None:
            self._path = check_place(self._path)
            self._lock = Lock(self._path)
            self._lock.take()
            self._lock.refuse_vanished()
        connection = connect(self._path)
        self._tx = tx = SqliteTx(connection)
        upgrade.bring_up_to_date(connection, self._path)
        moved.refuse(tx)
        tx.load_ids()
        tx.now = self._clock.now()
        self._recognise(tx)
        horizon = tx.now - self._limits.remember
        known = self._intake.known
        known.load(connection.execute(LOAD, {"horizon": horizon}))
        forgotten = tx.one(LAST_FORGOTTEN, {"horizon": horizon})
        if forgotten is not None and forgotten[0] is not None:
            known.forgotten_until = forgotten[0]
        self._intake.opened(tx.last_id("audit"))
        claims.reclaim(tx)  # the lock proves every earlier worker dead
        connection.execute("COMMIT")
        if self._lock is not None:
            self._lock.mark(tx.last_id("audit"))
        self._group = Group(tx, self._intake, self._clock, self._path, self._limits.lease)
        if self._path is not None:
            self._readers = Readers(self._path, self._clock)
            self._checkpoints = Checkpoints(self._path, self._limits.wal)

    def _recognise(self, tx: SqliteTx) -> None:
        """Notice a file that lacks what was sealed in it before: an older one was put in its place."""
        if self._lock is None:
            return
        last, reached = tx.last_id("audit"), self._lock.reached
        if last < reached:
            seen = f"the audit log ends at {last} and went to {reached} before, so an older file was put back"
            rewind.pause(tx, seen, {"before": reached, "now": last})

    async def close(self) -> None:
        """Write what is queued, fold the log into the file, and let go of it."""
        if self._closed == "is closed":
            return
        self._closed = "is closed"
        if self._path is None:
            self._let_go()
        else:
            if self._readers is not None:
                self._readers.leave()
            await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.stop()
        if self._checkpoints is not None and self._writer is not None:
            self._checkpoints.stop()
        if self._readers is not None:
            self._readers.close()
        if self._tx is not None:
            if self._path is not None and self.fatal is None:
                truncate(self._tx.connection)
            self._tx.connection.close()
        if self._checkpoints is not None:
            self._checkpoints.let_go()
        if self._lock is not None:
            self._lock.free()
        self._writer = self._checkpoints = self._readers = self._tx = self._lock = None

    async def now(self) -> Instant:
        return self._clock.now()

    def told(self) -> Instant | None:
        return self._clock.now()

    # ------------------------------------------------------------ how calls travel

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | asyncio.Future[Receipt]:
        self._check_writable()
        repeated = self._intake.repeated(delivery)
        if repeated is not None:
            return repeated
        if self._writer is None:
            taking = Taking(delivery, match, None, claimant)
            self._groups().write([taking], [])
            return cast(Receipt, _answer(taking))
        promise = self._promise(self._limits.intake)
        promise.add_done_callback(partial(self._offered, time.perf_counter()))
        self._writer.put(Taking(delivery, match, promise, claimant))
        return cast("asyncio.Future[Receipt]", promise)

    def _offered(self, begun: float, promise: asyncio.Future[object]) -> None:
        metrics.STORE["accept"].observe(time.perf_counter() - begun)
        if not promise.cancelled() and isinstance(error := promise.exception(), StoreUnavailable):
            self.unwritable = error

    async def _write(
        self,
        work: Callable[[SqliteTx], T],
        seconds: float | None = None,
        *,
        sync: bool = True,
        point: str = "",
        qualifier: str = "",
    ) -> T:
        return cast(
            T,
            await self._put(
                lambda promise: Call(work, promise, sync, point, qualifier), point or "write", seconds
            ),
        )

    async def _put(
        self, make: Callable[[Promise | None], Call], name: str, seconds: float | None = None
    ) -> object:
        """Have a call written.

        Args:
            make: makes it, given whom it answers.
            name: what it is counted as.
        """
        self._check_writable()
        if self._writer is None:
            call = make(None)
            self._groups().write([], [call])
            return _answer(call)
        with metrics.STORE[name].time():
            future = self._promise(self._limits.write if seconds is None else seconds)
            self._writer.put(make(future))
            return await self._written(future)

    async def _written(self, future: asyncio.Future[object]) -> object:
        try:
            return await future
        except StoreUnavailable as error:
            self.unwritable = error
            raise

    async def _read(self, work: Callable[[SqliteTx], T], seconds: float | None = None) -> T:
        self._check_open()
        if self._readers is None:
            tx = self._tx
            assert tx is not None
            tx.now = self._clock.now()
            tx.forget()
            try:
                return work(tx)
            except sqlite3.Error as error:
                raise unavailable(error, self._path) from error
        wait = self._limits.write if seconds is None else seconds
        future = asyncio.wrap_future(self._readers.submit(work, wait))
        try:
            with metrics.STORE["read"].time():
                async with asyncio.timeout(wait):
                    return cast(T, await future)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer a read within {wait:g}s; try again") from None

    async def _look(self, work: Callable[[SqliteTx], T]) -> T:
        """Read a few rows by their key, in the event loop's own thread. That takes some 30 µs; the way
        to another thread and back takes ten times as long, and a run on its way to act reads several
        times. Readers of a write-ahead log wait for nobody."""
        if self._readers is None:
            return await self._read(work)
        self._check_open()
        return self._readers.here(work, self._limits.intake)

    def _promise(self, seconds: float) -> asyncio.Future[object]:
        """A future that fails by itself when its time is up. One timer for all of them: a timer
        each would cost more than the rest of the call."""
        waiting = self._writer.waiting if self._writer is not None else 0
        if waiting >= self._limits.queue:
            raise StoreUnavailable(
                f"{waiting} calls wait for the store already (at most {self._limits.queue}); try again"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._waiting.setdefault(seconds, deque()).append((loop.time() + seconds, future))
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK, self._tick)
        return future

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for seconds, waiting in self._waiting.items():
            while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
                _, future = waiting.popleft()
                if not future.done():
                    future.set_exception(
                        StoreUnavailable(f"the store did not answer within {seconds:g}s; try again")
                    )
        self._ticking = any(self._waiting.values())
        if self._ticking:
            loop.call_later(_TICK, self._tick)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store {self._closed}")
        if self.fatal is not None:
            raise StoreUnavailable(str(self.fatal))

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise StoreError("the store is open for reading only; ask the running daemon (--server)")

    def _groups(self) -> Group:
        assert self._group is not None
        return self._group

    def _lease(self, tx: Tx) -> Instant:
        return Instant(tx.now + self._limits.lease)


def _answer(item: Taking | Call) -> object:
    if item.error is not None:
        raise item.error
    return item.answer
