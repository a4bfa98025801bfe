"""Looks at a few rows: those that wait at the same moment share one snapshot.

A snapshot costs a round trip to begin and one to end, more than a look itself. Nobody is spoiled by
another: where the database refuses one, each is done by itself.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from remediator.errors import StoreError, StoreUnavailable
from remediator.store.postgres.lane import hand_on
from remediator.store.postgres.link import Changed, Link
from remediator.store.postgres.pool import Pool, Work
from remediator.store.postgres.tx import PostgresTx

_GROUP = 48
"""Looks in one snapshot at most, so that none waits long for those before it."""

Look = tuple[Work, float, Future[Any]]
"""The work, until when (on time.monotonic), and its answer."""


class Looks:
    """The thread.

    Args:
        connect: makes a connection.
        changed: told when the server is no longer one to read from.
        pool: does what the group could not.
    """

    def __init__(self, connect: Callable[[], Link], changed: Callable[[str], None], pool: Pool) -> None:
        self._connect = connect
        self._changed = changed
        self._pool = pool
        self._link: Link | None = None
        self._queue: queue.SimpleQueue[Look | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-looks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, work: Work, deadline: float) -> Future[Any]:
        """Queue a look."""
        future: Future[Any] = Future()
        self._queue.put((work, deadline, future))
        return future

    def stop(self) -> None:
        """Do what is queued, then end. Blocks."""
        self._queue.put(None)
        self._thread.join()
        if self._link is not None:
            self._link.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            look = self._queue.get()
            group: list[Look] = []
            while True:
                if look is None:
                    stopping = True
                elif look[2].set_running_or_notify_cancel():
                    group.append(look)
                if len(group) >= _GROUP or stopping:
                    break
                try:
                    look = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._group(group)

    def _group(self, group: Sequence[Look]) -> None:
        try:
            if self._link is None or not self._link.usable:
                self._link = self._connect()
            answers = self._link.read(lambda tx: [_look(tx, work, until) for work, until, _ in group])
        except Exception as error:  # noqa: BLE001 - whose fault it was is found out one by one
            if isinstance(error, Changed):
                self._changed(str(error))
            for work, deadline, future in group:
                self._pool.read(work, deadline).add_done_callback(partial(hand_on, future))
            return
        for (_, _, future), (answer, failed) in zip(group, answers, strict=True):
            if failed is not None:
                future.set_exception(failed)
            else:
                future.set_result(answer)


def _look(tx: PostgresTx, work: Work, deadline: float) -> tuple[Any, Exception | None]:
    if time.monotonic() > deadline:
        return None, StoreUnavailable("the store did not answer in time; try again")
    try:
        return work(tx), None
    except StoreError as error:  # its own answer, such as that there is no such row
        return None, error
