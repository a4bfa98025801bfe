"""Group commit on PostgreSQL: what many runs write at the same time is one transaction.

A thread takes everything that is queued, does it in one transaction, and answers after the commit.
Whatever comes meanwhile is the next group. Nobody is spoiled by another: what cannot be written in
the group is done again in a transaction of its own, and so is everything after a commit whose answer
was lost, beginning with the question whether it is there already.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from remediator.contracts import Admission, Move
from remediator.errors import LeaseLost, StoreUnavailable
from remediator.model import Millis, Run
from remediator.store.postgres.gathering import Gathering
from remediator.store.postgres.link import Changed, CommitLost, Link
from remediator.store.postgres.pool import Pool, Work, nothing, unless
from remediator.store.postgres.tx import PostgresTx
from remediator.store.tx import Undo

_GROUP = 48
"""Pieces of work in one transaction at most: beyond 64 nested ones PostgreSQL gets slow."""
_OWN = "SELECT id FROM run WHERE id IN (:runs)"

Together = Callable[[PostgresTx, Sequence["Item"]], Sequence["Item"]]
"""Does what a few statements can do for all, notes each one's answer or error, and returns the rest,
which is done one by one."""


def unmoved(tx: PostgresTx) -> Millis:
    """By how much timers have been moved: they have not."""
    return Millis(0)


class Item:
    """One piece of work on one run.

    Args:
        work: writes and answers. It raises LeaseLost only before it has written anything.
        run: its row is locked before the work of the group begins.
        deadline: on time.monotonic; nothing of it is committed in a group after it.
        settled: as in `Pool.write`.
        before, after: called before and after the commit.
        ids: counter → how many ids it will want.
        wanted: what `work` writes, for `Together`.
        by: by how much timers have been moved since that was reckoned; not for `Together` unless it is 0.
    """

    __slots__ = (
        "after",
        "answer",
        "before",
        "by",
        "deadline",
        "error",
        "future",
        "ids",
        "run",
        "settled",
        "wanted",
        "work",
    )

    def __init__(
        self,
        work: Work,
        run: Run,
        deadline: float,
        *,
        settled: Work,
        before: Callable[[], None] = nothing,
        after: Callable[[], None] = nothing,
        ids: Mapping[str, int],
        wanted: Move | Admission,
        by: Callable[[PostgresTx], Millis] = unmoved,
    ) -> None:
        self.work = work
        self.wanted = wanted
        self.by = by
        self.run = run
        self.deadline = deadline
        self.settled = settled
        self.before = before
        self.after = after
        self.ids = ids
        self.future: Future[Any] = Future()
        self.answer: object = None
        self.error: BaseException | None = None


class Lane(Gathering[Item]):
    """The thread.

    Args:
        connect: makes a connection.
        changed: told when the server is no longer one to write to.
        pool: does what the group could not.
        together: does what it can for all of a group; not asked for one alone.
        locks: taken once for the whole group, after the rows of its runs.
        apart: whether each piece of work may be refused after it has begun to write, so that it needs
            a savepoint of its own.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        changed: Callable[[str], None],
        pool: Pool,
        name: str,
        together: Together,
        *,
        locks: Sequence[str] = (),
        apart: bool,
    ) -> None:
        super().__init__(connect, name, _GROUP)
        self._together = together
        self._changed = changed
        self._pool = pool
        self._locks = locks
        self._apart = apart

    def _group(self, group: Sequence[Item]) -> None:
        late = time.monotonic()
        for item in group:
            if item.deadline <= late:
                item.future.set_exception(StoreUnavailable("the store did not answer in time; try again"))
        group = [item for item in group if item.deadline > late]
        if len(group) <= 1:
            return self._alone(group)
        try:
            self._open().write(
                lambda tx: self._work(tx, group),
                lambda: _before(group),
                lambda: _each(group, "after"),
            )
        except CommitLost:
            self._alone(group, lost=True)
        except Exception as error:  # noqa: BLE001 - whose fault it was is found out one by one
            if isinstance(error, Changed):
                self._changed(str(error))
            self._alone(group)
        else:
            for item in group:
                if item.error is not None:
                    item.future.set_exception(item.error)
                else:
                    item.future.set_result(item.answer)

    def _work(self, tx: PostgresTx, group: Sequence[Item]) -> None:
        # Rows of `run` come before locks, also those of the last one's, and always in the same order.
        tx.hold(_OWN, {}, "runs", sorted({item.run.id for item in group}))
        for lock in self._locks:
            tx.lock(lock)
        ids: Counter[str] = Counter()
        for item in group:
            ids.update(item.ids)
        tx.reserve(ids)
        for item in group:
            item.answer = item.error = None
        for item in self._together(tx, group):
            try:
                if self._apart:
                    with tx.attempt():
                        item.answer = item.work(tx)
                else:
                    item.answer = item.work(tx)
            except Undo as undo:
                item.answer = undo.answer
            except LeaseLost as lost:
                item.error = lost

    def _alone(self, group: Sequence[Item], lost: bool = False) -> None:
        """Each in a transaction of its own."""
        for item in group:
            work = unless(item.settled, item.work) if lost else item.work
            future = self._pool.write(
                work, item.deadline, settled=item.settled, before=item.before, after=item.after
            )
            future.add_done_callback(partial(hand_on, item.future))


def _before(group: Sequence[Item]) -> None:
    now = time.monotonic()
    if any(item.deadline <= now for item in group):
        # Its caller has been told that nobody knows: it is left out, and the others are done one by one.
        raise StoreUnavailable("the store did not answer in time; try again")
    _each(group, "before")


def _each(group: Sequence[Item], moment: str) -> None:
    for item in group:
        if item.error is None:
            getattr(item, moment)()


def hand_on(to: Future[Any], done: Future[Any]) -> None:
    """Let one future end as another has ended."""
    if done.cancelled():
        to.set_exception(StoreUnavailable("the store is closed"))
    elif (error := done.exception()) is not None:
        to.set_exception(error)
    else:
        to.set_result(done.result())
