"""The threads around the file: one writes, a few read, one makes checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import sys
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from remediator.contracts import Clock
from remediator.store import claims
from remediator.store.sqlite.file import connect, unavailable
from remediator.store.sqlite.queue import Call, Taking
from remediator.store.sqlite.tx import SqliteTx
from remediator.store.sqlite.writer import Group

T = TypeVar("T")
_GROUP = 512
"""Calls in one transaction at most."""
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
_FRAME = 4_096 + 24
_PAUSE = 0.25
"""Seconds between two looks at the size of the log."""


class WriterThread:
    """Feeds the group commit from a queue and answers through the event loop, once for each group.

    `waiting` is how many calls are queued or being written; only the loop's thread touches it.
    """

    def __init__(self, group: Group, loop: AbstractEventLoop, checkpoints: Checkpoints) -> None:
        self._group = group
        self._loop = loop
        self._checkpoints = checkpoints
        self.waiting = 0
        self._queue: queue.SimpleQueue[Taking | Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Taking | Call) -> None:
        """Queue a call; its promise is a future of the loop."""
        self.waiting += 1
        self._queue.put(item)

    def stop(self) -> None:
        """Write what is queued, then end. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            item = self._queue.get()
            takings: list[Taking] = []
            calls: list[Call] = []
            taken = 0
            while True:
                taken += 1
                if item is None:
                    stopping = True
                # A caller that has given up was told that nothing was written: keep to that.
                elif item.promise is None or not item.promise.done():
                    (takings if isinstance(item, Taking) else calls).append(item)  # type: ignore[arg-type]
                if taken >= _GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if takings or calls:
                self._group.write(takings, calls)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                items: list[Taking | Call] = [*takings, *calls]
                self._loop.call_soon_threadsafe(self._answer, items, taken)
            if takings or calls:
                self._checkpoints.written(self._group.connection)

    def _answer(self, items: Sequence[Taking | Call], taken: int) -> None:
        self.waiting -= taken
        for item in items:
            if isinstance(item, Taking) and item.promise is not None and item.promise.done():
                # Who asked is told nothing any more: the runs are whoever's that claims them first.
                claimed = item.answer.claimed if item.answer is not None else ()
                if item.error is None and claimed:
                    self.put(Call(partial(claims.release, runs=claimed), None, sync=False))
        _resolve(items)


def _resolve(items: Sequence[Taking | Call]) -> None:
    for item in items:
        future = item.promise
        if not isinstance(future, Future) or future.done():
            continue
        if item.error is not None:
            future.set_exception(item.error)
        else:
            future.set_result(item.answer)


class Readers:
    """Read-only connections in threads of their own. A read never waits for the writer."""

    def __init__(self, path: Path, clock: Clock, threads: int = 3) -> None:
        self._path = path
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._shared: SqliteTx | None = None

    def submit(self, work: Callable[[SqliteTx], T], seconds: float) -> Any:
        """Run `work` on one snapshot, for `seconds` at most; returns a concurrent future."""
        return self._pool.submit(self._run, work, time.monotonic() + seconds)

    def here(self, work: Callable[[SqliteTx], T], seconds: float) -> T:
        """Run `work` in the event loop's own thread, on a connection of that thread. What is looked at in one
        turn of the loop shares one snapshot.

        Whoever was answered by the writer sees what it has written all the same: a snapshot from before that
        commit asked for its end before the answer was on its way, and the loop takes them in that order.
        """
        try:
            tx = self._shared
            if tx is None:
                tx = self._shared = self._begin(time.monotonic() + seconds)
                asyncio.get_running_loop().call_soon(self._end_shared)
            elif tx.now != (now := self._clock.now()):
                tx.now = now
                tx.forget()  # some of it may have been true at that moment only
            return work(tx)
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def _end_shared(self) -> None:
        tx, self._shared = self._shared, None
        if tx is not None:
            with contextlib.suppress(sqlite3.Error):  # what it has read is read; the next meets the fault
                tx.connection.execute("ROLLBACK")

    def leave(self) -> None:
        """Look at nothing `here` any more. In the event loop's own thread: nobody else may close a connection
        while the end of its snapshot is still to come."""
        self._end_shared()
        tx: SqliteTx | None = getattr(self._local, "tx", None)
        if tx is not None:
            self._open.remove(tx.connection)
            tx.connection.close()
            self._local.tx = None

    def close(self) -> None:
        """Blocks until reads under way have ended; after `leave`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._open:
            connection.close()

    def _run(self, work: Callable[[SqliteTx], T], deadline: float) -> T:
        try:
            tx = self._begin(deadline)
            try:
                return work(tx)
            finally:
                tx.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def _begin(self, deadline: float) -> SqliteTx:
        tx: SqliteTx | None = getattr(self._local, "tx", None)
        if tx is None:
            tx = SqliteTx(connect(self._path, read_only=True))
            self._local.tx = tx
            self._open.append(tx.connection)
        tx.now = self._clock.now()
        tx.forget()  # what the last snapshot held is not what this one holds
        tx.connection.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
        tx.connection.execute("BEGIN")
        return tx


class Checkpoints:
    """Moves the log into the database off the commit path, and keeps the log bounded.

    Checkpoints are passive: they run beside the writer and wait for nobody. Once every frame is in
    the database, the next commit starts the log anew from its beginning, in the same blocks of the
    disk, for a sync that need not extend a file takes half the time. Under steady load the writer
    always adds frames behind a checkpoint; when the log outgrows its bound, it finishes one itself,
    which by then has little left to do.
    """

    def __init__(self, path: Path, bound: int) -> None:
        self._path = path
        self._index = path.with_name(path.name + "-shm")
        self._bound = bound
        self._dirty = threading.Event()
        self._stopping = threading.Event()
        self._finish = False
        self._looking: int | None = None
        self._thread = threading.Thread(target=self._run, name="store-checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until a checkpoint under way has ended."""
        self._stopping.set()
        self._dirty.set()
        self._thread.join()

    def let_go(self) -> None:
        """Close the log's index. Only when no connection is open any more: to close any handle on a file
        drops all of the process's locks on it (POSIX, fcntl), SQLite's too. Without them another process
        that opens the database takes this one for dead and cuts the index off, which this one has mapped,
        and dies of."""
        if self._looking is not None:
            os.close(self._looking)
            self._looking = None

    def written(self, connection: sqlite3.Connection) -> None:
        """Called by the writer after each group, outside a transaction."""
        if self._finish:
            self._finish = False
            with contextlib.suppress(sqlite3.Error):  # the next commit meets the fault itself
                connection.execute(_CHECKPOINT)
        if not self._dirty.is_set():
            self._dirty.set()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            self._dirty.wait()
            self._dirty.clear()
            if self._stopping.wait(_PAUSE):
                break
            busy = self._dirty.is_set()
            if busy and self._used() < self._bound:
                continue
            with contextlib.suppress(sqlite3.Error, OSError):  # the next commit meets the fault itself
                if connection is None:
                    connection = connect(self._path)
                connection.execute(_CHECKPOINT)
                if busy:
                    connection.execute(_CHECKPOINT)
                    self._finish = True
        if connection is not None:
            connection.close()

    def _used(self) -> int:
        """Bytes of the log that are in use: its last valid frame, from the header of its index
        (sqlite.org/walformat.html, 2.1: mxFrame, 32 bits in native order at offset 16)."""
        try:
            if self._looking is None:
                self._looking = os.open(self._index, os.O_RDONLY | os.O_CLOEXEC)
            return int.from_bytes(os.pread(self._looking, 4, 16), sys.byteorder) * _FRAME
        except OSError:
            return 0


def truncate(connection: sqlite3.Connection) -> None:
    """Fold the whole log into the database and empty it, unless a reader still needs it."""
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
