"""The one writer: group commit across calls, without waiting for more of them to come.

It takes everything that is queued, writes it in one transaction with one sync, and answers after
the commit. Whatever comes meanwhile is the next group. One bad call spoils no other: each has a
savepoint of its own, and a group of deliveries that cannot be written as a whole is written again
one by one. If the commit itself fails, every call of the group fails and memory goes back too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from pathlib import Path

from msgspec.structs import replace

from remediator import failpoint
from remediator.contracts import Clock
from remediator.errors import Conflict, LeaseLost, PayloadError, StoreError, StoreUnavailable
from remediator.model import Instant, Millis, RunId
from remediator.store import claims, surges
from remediator.store.intake import ALERT, EVENT, UPDATE, Intake
from remediator.store.sqlite import admits
from remediator.store.sqlite.file import error_code, unavailable
from remediator.store.sqlite.queue import Admitting, Call, Taking
from remediator.store.sqlite.tx import Spoilt, SqliteTx, Waiting
from remediator.store.tx import Row, Undo

_ROWS = 64
"""Rows in one INSERT. Each statement gives up Python's lock once, so fewer statements mean less
waiting for it; the number of parameters stays far below SQLite's bound of 32,766."""
_SENT_STARTS_AT, _RESOLVED_AT = 4, 8
_PLAIN = itemgetter(0, 1, 2, 3, 6, 7, 9)
"""Of an alert's columns (ALERT), those that differ among new alerts; see `_plain_alerts`."""
_SURVIVABLE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""After these nothing was written and nothing is in doubt: the next group may well succeed."""

_OWN_FAULT = frozenset(
    {
        0,  # refused before it reached SQLite
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
"""The fault of one piece of work, not of the database: the rest of its group is written."""


class Group:
    """Writes groups of calls on the writer's connection. Knows nothing of threads."""

    def __init__(self, tx: SqliteTx, intake: Intake, clock: Clock, path: Path | None, lease: Millis) -> None:
        self._lease = lease
        self._tx = tx
        self._intake = intake
        self._clock = clock
        self._path = path
        self._full = True
        self.connection = tx.connection
        self.fatal: StoreUnavailable | None = None
        """Why nothing can be trusted any more until the store is opened again; None if all is well."""
        self.commits = 0
        """Groups that were committed."""
        self.lost: Callable[[], StoreUnavailable | None] = lambda: None
        """Why the file is not the one that was opened; None while it is. Asked after each commit: before the
        answers, so that nothing is said to be kept that is in no file."""

    def write(self, takings: Sequence[Taking], calls: Sequence[Call]) -> None:
        """Write them all and commit; each then has its answer or its error."""
        if self.fatal is None:
            try:
                self._write(takings, calls)
                failure = self.lost()
                if failure is None:
                    return
                self.fatal = failure
            except sqlite3.Error as error:
                failure = unavailable(error, self._path)
                self._roll_back()
                if error_code(error) not in _SURVIVABLE:
                    self.fatal = failure
        else:
            failure = self.fatal
        items: list[Taking | Call] = [*takings, *calls]
        for item in items:
            item.error = failure

    def _write(self, takings: Sequence[Taking], calls: Sequence[Call]) -> None:
        connection = self._tx.connection
        self._synchronous(bool(takings) or any(call.sync for call in calls))
        try:
            self._work(takings, calls, together=True)
        except Spoilt as spoilt:
            if _spoils_all(spoilt):
                raise _cause(spoilt) from None
            self._roll_back()  # one of them is to blame: find out which
            self._work(takings, calls, together=False)
        self._reach("before_commit", takings, calls)
        if connection.in_transaction:
            connection.execute("COMMIT")
            self.commits += 1
        self._tx.committed()
        self._reach("after_commit", takings, calls)
        self._intake.commit(self._tx.now)

    def _work(self, takings: Sequence[Taking], calls: Sequence[Call], *, together: bool) -> None:
        """Everything between the beginning of the transaction and its end.

        Args:
            together: what can be done by a few statements for all is done so. Of what then cannot be written
                nobody knows whose fault it is.

        Raises:
            Spoilt: (together) something cannot be written.
        """
        tx = self._tx
        tx.now = self._clock.now()
        tx.forget()
        tx.gathers = together
        for taking in takings:
            taking.answer = taking.error = None
        for call in calls:
            call.answer = call.error = None
        if takings:
            self._take_all(takings)
            tx.forget()  # the runs that it opened are in the table, and a call may end one
        admitting: dict[RunId, Admitting] = {}
        for call in calls:
            if together and isinstance(call, Admitting) and call.run.id not in admitting:
                admitting[call.run.id] = call
            elif together and call.whole:
                self._call_whole(call)
            else:  # such as a brake: it holds what was asked for after it, and nothing before
                self._admit(admitting)
                self._call(call)
        self._admit(admitting)
        tx.flush()

    def _synchronous(self, full: bool) -> None:
        """Ask for a sync at commit, or not. What need not survive a power cut by itself (a claim)
        is synced by the next full commit, for that syncs the whole log."""
        if full is not self._full and self._path is not None:
            self._tx.connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    @staticmethod
    def _reach(moment: str, takings: Sequence[Taking], calls: Sequence[Call]) -> None:
        if any(taking.error is None for taking in takings):
            failpoint.hit(f"accept.{moment}")
        for call in calls:
            if call.point and call.error is None:
                failpoint.hit(f"{call.point}.{moment}", call.qualifier)

    # ------------------------------------------------------------ deliveries

    def _take_all(self, takings: Sequence[Taking]) -> None:
        try:
            for taking in takings:
                taking.answer = self._intake.take(self._tx, taking.delivery, taking.match)
            self._flush()
            self._claim(takings)
        except Exception as error:
            if _spoils_all(error):
                raise
            self._roll_back()  # at least one of them cannot be written: find out which
            for taking in takings:
                self._take_one(taking)

    def _claim(self, takings: Sequence[Taking]) -> None:
        """Let who would begin at once have what is due at once: it saves a transaction, and its way."""
        tx = self._tx
        room: dict[str, int] = {}
        for taking in takings:
            receipt, claimant = taking.answer, taking.claimant
            if claimant is None or receipt is None or receipt.due is None or receipt.due > tx.now:
                continue
            left = room.setdefault(claimant.name, claimant.room())
            claimed = claims.claim_new(tx, claimant.name, receipt.runs[:left], Instant(tx.now + self._lease))
            room[claimant.name] = left - len(claimed)
            rest = receipt.resolved or len(claimed) < len(receipt.runs)
            taking.answer = replace(receipt, claimed=tuple(claimed), due=receipt.due if rest else None)

    def _take_one(self, taking: Taking) -> None:
        tx = self._tx
        mark = self._intake.known.mark()
        tx.begin()
        waiting = tx.waiting()
        tx.connection.execute("SAVEPOINT one")
        try:
            taking.answer = self._intake.take(tx, taking.delivery, taking.match)
            self._flush()
        except Exception as error:
            if _spoils_all(error):
                raise
            self._undo_one(waiting)
            self._intake.rollback(mark)
            taking.error = _cannot_be_stored(_cause(error))
        tx.connection.execute("RELEASE one")

    def _flush(self) -> None:
        intake = self._intake
        if not intake.events:
            return
        self._tx.begin()
        connection = self._tx.connection
        plain: list[Row] = []
        rest: list[Row] = []
        for row in intake.alerts:
            (plain if row[_SENT_STARTS_AT] is None and row[_RESOLVED_AT] is None else rest).append(row)
        _insert(connection, _plain_alerts, list(map(_PLAIN, plain)))
        _insert(connection, _alerts, rest)
        if intake.updates:
            connection.executemany(UPDATE, intake.updates)
        _insert(connection, _events, intake.events)
        surges.add(self._tx, intake.counts)
        intake.wake(self._tx)
        self._tx.flush()
        intake.clear()

    # ------------------------------------------------------------ other calls

    def _call(self, call: Call) -> None:
        tx = self._tx
        tx.begin()
        waiting = tx.waiting()
        tx.connection.execute("SAVEPOINT one")
        try:
            call.answer = call.work(tx)
        except Spoilt:
            raise
        except Undo as undo:
            self._undo_one(waiting)
            self._intake.undone()
            call.answer = undo.answer
        except Exception as error:
            if _spoils_all(error):
                raise
            self._undo_one(waiting)
            self._intake.undone()
            call.error = _told(error)
        tx.connection.execute("RELEASE one")

    def _call_whole(self, call: Call) -> None:
        """Without a savepoint: it comes too late before it writes anything, or it is written as a whole."""
        try:
            call.answer = call.work(self._tx)
        except LeaseLost as error:
            call.error = error
        except Exception as error:
            raise Spoilt from error

    def _admit(self, calls: dict[RunId, Admitting]) -> None:
        """Those that ask for the permission to act; a move that came between them goes ahead."""
        if not calls:
            return
        tx = self._tx
        tx.forget()  # those before them may have acted, and moves may have ended runs
        asking = list(calls.values())
        calls.clear()
        try:
            wanted = [(call.run, call.admission) for call in asking]
            answers = admits.together(tx, wanted, asking[0].lease(tx))
        except Exception as error:
            raise Spoilt from error
        for call, answer in zip(asking, answers, strict=True):
            if isinstance(answer, LeaseLost):
                call.error = answer
            else:
                call.answer = answer

    def _undo_one(self, waiting: Waiting) -> None:
        self._tx.connection.execute("ROLLBACK TO one")
        self._tx.restore(waiting)
        self._tx.forget()

    def _roll_back(self) -> None:
        self._intake.rollback()
        self._tx.then = None
        self._tx.forget()
        self._tx.restore({})
        try:
            if self._tx.connection.in_transaction:
                self._tx.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.fatal = unavailable(error, self._path)


def _insert(connection: sqlite3.Connection, statement: Callable[[int], str], rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), _ROWS):
        chunk = rows[start : start + _ROWS]
        connection.execute(statement(len(chunk)), list(chain.from_iterable(chunk)))


def _statement(table: str, columns: str, rows: Iterable[str]) -> str:
    # OR FAIL: a fault undoes the whole group or its savepoint anyway, so SQLite need not copy every
    # page before it changes it, just to be able to undo this one statement. That was half the cost.
    return f"INSERT OR FAIL INTO {table} ({columns}) VALUES {', '.join(rows)}"  # noqa: S608


@cache
def _alerts(rows: int) -> str:
    return _statement("alert", ALERT, [f"({', '.join('?' * (ALERT.count(',') + 1))})"] * rows)


@cache
def _events(rows: int) -> str:
    return _statement("alert_event", EVENT, [f"({', '.join('?' * (EVENT.count(',') + 1))})"] * rows)


@cache
def _plain_alerts(rows: int) -> str:
    """For alerts that fire and began when their sender says: what needs no binding is in the text."""
    one = "(?{}, ?{}, ?{}, ?{}, NULL, 'firing', ?{}, ?{}, NULL, ?{}, ?{})"
    return _statement(
        "alert", ALERT, (one.format(*range(n + 1, n + 8), n + 7) for n in range(0, 7 * rows, 7))
    )


def _cause(error: BaseException) -> BaseException:
    """What really happened."""
    while isinstance(error, Spoilt) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _spoils_all(error: BaseException) -> bool:
    """Whether the database failed, rather than this one piece of work."""
    error = _cause(error)
    return isinstance(error, sqlite3.Error) and error_code(error) not in _OWN_FAULT


def _told(error: BaseException) -> BaseException:
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"the store holds something that excludes this: {error}")
    if isinstance(error, sqlite3.Error):
        return StoreError(f"this cannot be stored: {error}")
    return error


def _cannot_be_stored(error: BaseException) -> BaseException:
    if isinstance(error, (OverflowError, UnicodeError)):
        return PayloadError(f"a value of this delivery cannot be stored: {error}")
    return _told(error)
