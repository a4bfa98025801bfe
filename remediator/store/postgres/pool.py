"""Threads with a connection each, in which one call is one transaction, tried again where that is safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from remediator.errors import StoreUnavailable
from remediator.store.postgres.link import Changed, CommitLost, Link, again, tell
from remediator.store.postgres.tx import PostgresTx
from remediator.store.tx import Undo

T = TypeVar("T")
Work = Callable[[PostgresTx], Any]
_TRIES = 5
_PAUSE = 0.02


def nothing() -> None:
    """No fail-point here."""


class Pool:
    """Does what it is given, in the order it comes, a few at a time.

    Args:
        connect: makes a connection.
        changed: told when the server is no longer one to write to.
        threads: how many.
        name: of the threads.
    """

    def __init__(
        self, connect: Callable[[], Link], changed: Callable[[str], None], threads: int, name: str
    ) -> None:
        self._connect = connect
        self._changed = changed
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._local = threading.local()
        self._links: set[Link] = set()

    def write(
        self,
        work: Work,
        deadline: float,
        *,
        settled: Work | None = None,
        before: Callable[[], None] = nothing,
        after: Callable[[], None] = nothing,
        alone: bool = False,
    ) -> Future[Any]:
        """One transaction.

        Args:
            alone: as for `PostgresTx.begin`.
            deadline: on time.monotonic; nothing is committed after it.
            settled: whether the work is there already, after a COMMIT without an answer: its
                answer, or None. It must wait for a transaction of the former connection that is
                still under way. Without it such a commit is StoreUnavailable.
        """
        return self._threads.submit(self._write, work, deadline, settled, before, after, alone)

    def read(self, work: Work, deadline: float) -> Future[Any]:
        """One snapshot."""
        return self._threads.submit(self._read, work, deadline)

    def close(self) -> None:
        """Finish what is under way. Blocks."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for link in self._links:
            link.close()

    def _write(
        self,
        work: Work,
        deadline: float,
        settled: Work | None,
        before: Callable[[], None],
        after: Callable[[], None],
        alone: bool,
    ) -> Any:
        def in_time() -> None:
            if time.monotonic() > deadline:
                raise StoreUnavailable("the store took too long, and nothing was written; try again")
            before()

        todo = work
        for left in reversed(range(_TRIES)):
            if time.monotonic() > deadline:
                break
            try:
                return self.link().write(todo, in_time, after, alone=alone)
            except Undo as undo:
                return undo.answer
            except CommitLost as lost:
                if settled is None or not left:
                    raise _lost(lost) from lost
                todo = unless(settled, work)
            except Exception as error:
                if not (left and again(error)):
                    raise self._told(error) from error
            time.sleep(_PAUSE)
        raise StoreUnavailable("the store did not answer in time; try again")

    def _read(self, work: Work, deadline: float) -> Any:
        for left in (True, False):
            if time.monotonic() > deadline:
                break
            try:
                return self.link().read(work)
            except Exception as error:
                if not (left and again(error)):
                    raise self._told(error) from error
        raise StoreUnavailable("the store did not answer in time; try again")

    def link(self) -> Link:
        """This thread's connection, made anew where the last one broke."""
        found: Link | None = getattr(self._local, "link", None)
        if found is None or not found.usable:
            if found is not None:
                self._links.discard(found)
                found.close()
            found = self._local.link = self._connect()
            self._links.add(found)
        return found

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, Changed):
            self._changed(str(error))
            return StoreUnavailable(str(error))
        return tell(error)


def unless(settled: Work, work: Work) -> Work:
    """The work, unless it is there already."""

    def either(tx: PostgresTx) -> Any:
        found = settled(tx)
        return work(tx) if found is None else found

    return either


def _lost(error: CommitLost) -> StoreUnavailable:
    return StoreUnavailable(f"PostgreSQL was lost in the middle of a commit ({error.__cause__}); try again")
