"""Looks at a few rows: those that wait at the same moment share one snapshot.

A snapshot costs a round trip to begin and one to end, more than a look itself. Nobody is spoiled by
another: where the database refuses one, each is done by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from remediator.errors import StoreError, StoreUnavailable
from remediator.store.postgres.gathering import Gathering
from remediator.store.postgres.lane import hand_on
from remediator.store.postgres.link import Changed, Link
from remediator.store.postgres.pool import Pool, Work
from remediator.store.postgres.tx import PostgresTx

_GROUP = 48
"""Looks in one snapshot at most, so that none waits long for those before it."""


class Look:
    """One look. Args: deadline: on time.monotonic; nobody wants its answer after it."""

    __slots__ = ("deadline", "future", "work")

    def __init__(self, work: Work, deadline: float) -> None:
        self.work = work
        self.deadline = deadline
        self.future: Future[Any] = Future()


class Looks(Gathering[Look]):
    """The thread.

    Args:
        connect: makes a connection.
        changed: told when the server is no longer one to read from.
        pool: does what the group could not.
    """

    def __init__(self, connect: Callable[[], Link], changed: Callable[[str], None], pool: Pool) -> None:
        super().__init__(connect, "store-looks", _GROUP)
        self._changed = changed
        self._pool = pool

    def _group(self, group: Sequence[Look]) -> None:
        try:
            answers = self._open().read(lambda tx: [_look(tx, look) for look in group])
        except Exception as error:  # noqa: BLE001 - whose fault it was is found out one by one
            if isinstance(error, Changed):
                self._changed(str(error))
            for look in group:
                alone = self._pool.read(look.work, look.deadline)
                alone.add_done_callback(partial(hand_on, look.future))
            return
        for look, (answer, failed) in zip(group, answers, strict=True):
            if failed is not None:
                look.future.set_exception(failed)
            else:
                look.future.set_result(answer)


def _look(tx: PostgresTx, look: Look) -> tuple[Any, Exception | None]:
    if time.monotonic() > look.deadline:
        return None, StoreUnavailable("the store did not answer in time; try again")
    try:
        return look.work(tx), None
    except StoreError as error:  # its own answer, such as that there is no such row
        return None, error
