"""`Tx` on one PostgreSQL connection."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from remediator.contracts import Clock, Hint
from remediator.model import Instant
from remediator.store.postgres.clock import Note, ServerClock, note
from remediator.store.tx import NONE, Row, Values

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

T = TypeVar("T")
CLASS = 0x52454D44
"""The first half of every advisory lock of this package."""
MIGRATING, NUMBERING, SEALING, TIMING = 1, 2, 3, 4
"""Second halves with a meaning of their own; named locks have the bits above these."""
CLOCK = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_MOST_IDS = 1024
"""Ids fetched at once at most, unless more were asked for."""
_FEW = 3
"""Fewer rows than this are inserted one by one: a COPY has more to say before it begins."""
_FEW_TOGETHER = 16
"""The same where they go in one round trip with others."""
_BEGIN = f"BEGIN; SELECT {CLOCK}"
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {CLOCK}"
# Whoever writes does so before a jump of the clock is written, or after it: the look comes after the lock.
# A function, whose plan is kept, costs a tenth of what its statements would.
_BEGIN_BY_CLOCK = "BEGIN; SELECT remediator_time(true)"
_BEGIN_ALONE = f"BEGIN; SELECT pg_advisory_xact_lock({CLASS}, {TIMING}); SELECT remediator_time(false)"
_BEGIN_READ_BY_CLOCK = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT remediator_time(false)"
_LOCK = f"SELECT {CLOCK} FROM pg_advisory_xact_lock({CLASS}, %(key)s::int)"  # noqa: S608
_IDS = "SELECT remediator_ids(%(counter)s, %(count)s)"
_NAME = re.compile(r"(?<![:\w']):([a-z_]+)\b")
_WORD = re.compile(r"[a-z_]+")
_texts: dict[str, str] = {}


def native(sql: str) -> str:
    """A statement of this package with its `:name` parameters as psycopg writes them."""
    found = _texts.get(sql)
    if found is None:
        found = _texts[sql] = _NAME.sub(r"%(\1)s", sql.replace("%", "%%"))
    return found


@cache
def _listed(sql: str, name: str) -> str:
    """A statement with its `IN (:name)` as PostgreSQL takes a list."""
    return sql.replace(f"IN (:{name})", f"= ANY(:{name})")


def _with(sql: str, values: Values, name: str, among: Sequence[object]) -> tuple[str, Values]:
    return (_listed(sql, name), {**values, name: list(among)}) if name else (sql, values)


@cache
def _insert(table: str, columns: str) -> str:
    marks = ", ".join(["%s"] * len(columns.split(",")))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608


def _key(name: str) -> int:
    """The second half of a named lock."""
    return (zlib.crc32(name.encode()) & 0x7FFFFFF0) + 16


@cache
def _words(sql: str) -> frozenset[str]:
    """Every name in a statement, the tables among them."""
    return frozenset(_WORD.findall(sql))


@cache
def _can_pipeline() -> bool:
    """Whether the driver's libpq knows pipelines (14 does)."""
    from psycopg import Pipeline

    return Pipeline.is_supported()


class PostgresTx:
    """Statements on one connection, which is in autocommit: `begin` and the caller's COMMIT are
    spoken out loud.

    Args:
        clock: None for the database's own.
        server: what is known of that; None for whoever takes it as it is.
    """

    def __init__(
        self, connection: Connection[Row], clock: Clock | None, server: ServerClock | None = None
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._server = server
        self._note = Note()
        self.wall = 0
        """What the database's clock shows, whether it is believed or not."""
        self._reserved: dict[str, tuple[int, int]] = {}
        self._growth: dict[str, int] = {}
        self.now = Instant(0)
        self._locked: set[str] = set()
        self._known: dict[str, Any] = {}
        self._later: dict[tuple[str, str], list[Row]] = {}
        self._last: list[tuple[str, Values]] = []
        self._pipelines = _can_pipeline()
        self.hinted: set[Hint] = set()
        """What to let the other replicas look at, once this transaction is committed."""

    def hint(self, hint: Hint) -> None:
        self.hinted.add(hint)

    @property
    def moved(self) -> int:
        """By how much timers have been moved in all, in milliseconds; that stays so until this ends."""
        return self._note.moved

    def begin(self, *, read_only: bool = False, alone: bool = False, locks: Sequence[str] = ()) -> None:
        """Begin, and ask what time it is, in one round trip.

        Args:
            alone: nobody else writes until this ends; where the database's clock is watched.
            locks: names to `lock` before time is asked.
        """
        self._reserved.clear()
        self._growth.clear()
        self._locked.clear()
        self._known.clear()
        self._later.clear()
        self._last.clear()
        self.hinted = set()
        if self._server is None:
            statements = _BEGIN_READ if read_only else _BEGIN
        elif read_only:
            statements = _BEGIN_READ_BY_CLOCK
        else:
            statements = _BEGIN_ALONE if alone else _BEGIN_BY_CLOCK
        if locks:
            before, _, time = statements.rpartition("; ")
            taken = [f"SELECT pg_advisory_xact_lock({CLASS}, {_key(name)})" for name in locks]
            statements = "; ".join([before, *taken, time])
            self._locked.update(locks)
        asked = self._passed()
        cursor = self.connection.execute(cast(Any, statements), prepare=False)
        while cursor.nextset():  # the last one has the time
            pass
        row = cursor.fetchone()
        assert row is not None
        if self._server is not None:
            wall, _, said = row[0].partition(" ")
            self._note = note(said)
            self._tell(int(wall), asked)
        else:
            self._tell(row[0], asked)

    def lock(self, name: str) -> None:
        if name in self._locked:
            return
        # Whoever waited looks at the clock again: what it counts must not be older than its turn.
        asked = self._passed()
        row = self._execute(_LOCK, {"key": _key(name)}).fetchone()
        assert row is not None
        self._tell(row[0], asked)
        self._locked.add(name)

    def id(self, counter: str, count: int = 1) -> int:
        first, left = self._reserved.get(counter, (0, 0))
        if left < count:
            # Twice as many each time: a transaction with many asks seldom, and loses half of them at most.
            more = self._growth[counter] = min(_MOST_IDS, 2 * self._growth.get(counter, 0)) or 1
            left = max(more, count)
            row = self._execute(_IDS, {"counter": counter, "count": left}).fetchone()
            first = 0 if row is None else int(row[0])
        self._reserved[counter] = (first + count, left - count)
        return first

    def reserve(self, counts: Mapping[str, int], *asked: tuple[str, Values]) -> list[list[Row]]:
        """Fetch ids that this transaction will want, so many of each counter, in one round trip. What it does
        not use is lost.

        Args:
            asked: what else is to be read in that round trip, before it; its rows are returned.
        """
        counts = {counter: count for counter, count in counts.items() if count}  # of none there is no first
        if sum(counts.values()) <= 1:
            return self.several(*asked)
        fetched = ", ".join(f"remediator_ids('{counter}', :{counter})" for counter in counts)
        *found, (row,) = self.several(*asked, (f"SELECT {fetched}", counts))
        self._reserved |= {
            counter: (int(first), counts[counter]) for counter, first in zip(counts, row, strict=True)
        }
        return found

    def several(self, *asked: tuple[str, Values]) -> list[list[Row]]:
        """Statements one after the other, each with a snapshot of its own, in one round trip; the rows of
        each."""
        for sql, _ in asked:
            self._write_before(sql)
        cursors: list[Cursor[Row]] = []
        with self._together(len(asked)):
            for sql, values in asked:
                cursors.append(self.connection.execute(cast(Any, native(sql)), values))
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def _together(self, count: int) -> AbstractContextManager[object]:
        """What is executed in here goes in one round trip; its rows are there behind the end."""
        return self.connection.pipeline() if count > 1 and self._pipelines else nullcontext()

    def run(self, sql: str, values: Values = NONE) -> int:
        return self._execute(native(sql), values).rowcount

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        if len(rows) == 1:
            self._execute(native(sql), rows[0])
        elif rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(cast(Any, native(sql)), rows)

    def append(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        self._later.setdefault((table, columns), []).extend(rows)

    def last(self, sql: str, rows: Sequence[Values]) -> None:
        """Write the same statement for every row at the transaction's end, for what others wait for."""
        self._last.extend((sql, values) for values in rows)

    def flush(self) -> None:
        """Write what `append` and `last` were given: many rows of a table by COPY, all else in one round
        trip."""
        few: list[tuple[str, Any]] = []
        for (table, columns), rows in list(self._later.items()):
            if len(rows) < _FEW_TOGETHER:
                del self._later[table, columns]
                few += [(_insert(table, columns), row) for row in rows]
            else:
                self._write(table, columns)
        few += [(native(sql), values) for sql, values in self._last]
        self._last.clear()
        with self._together(len(few)):
            for statement, values in few:
                self.connection.execute(cast(Any, statement), values)

    def _write(self, table: str, columns: str) -> None:
        rows = self._later.pop((table, columns))
        if len(rows) < _FEW:
            for row in rows:
                self.connection.execute(cast(Any, _insert(table, columns)), row)
        else:
            self.copy(table, columns, rows)

    def former(self, sql: str, values: Values, name: str = "", among: Sequence[object] = ()) -> list[Row]:
        sql, values = _with(sql, values, name, among)
        return self.connection.execute(cast(Any, native(sql)), values).fetchall()

    def known(self, name: str, read: Callable[[], T]) -> T:
        if name not in self._known:
            self._known[name] = read()
        return cast(T, self._known[name])

    def unknown(self, name: str) -> None:
        self._known.pop(name, None)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Work of its own within this transaction: what it raises undoes it, and nothing else."""
        later = {key: list(rows) for key, rows in self._later.items()}
        known, locked, hinted = dict(self._known), set(self._locked), set(self.hinted)
        last = list(self._last)
        self._execute("SAVEPOINT attempt", NONE)
        try:
            yield
        except BaseException:
            self._execute("ROLLBACK TO SAVEPOINT attempt", NONE)
            # All is as before: what was appended before and written since is to be written again, what was
            # read since may have been of what is undone, and what was locked since is free.
            self._later, self._known, self._locked, self.hinted = later, known, locked, hinted
            self._last = last
            raise

    def change(self, sql: str, values: Values = NONE, name: str = "", among: Sequence[int] = ()) -> list[Row]:
        sql, values = _with(sql, values, name, among)
        cursor = self._execute(native(sql), values)
        return cursor.fetchall() if cursor.description else []

    def hold(self, sql: str, values: Values, name: str = "", among: Sequence[int] = ()) -> list[int]:
        sql, values = _with(sql, values, name, among)
        return [row[0] for row in self.all(f"{sql} ORDER BY id FOR UPDATE", values)]

    def all(self, sql: str, values: Values = NONE) -> list[Row]:
        return self._execute(native(sql), values).fetchall()

    def any(self, sql: str, name: str, ids: Sequence[int]) -> list[Row]:
        return self.all(_listed(sql, name), {name: list(ids)}) if ids else []

    def one(self, sql: str, values: Values = NONE) -> Row | None:
        return self._execute(native(sql), values).fetchone()

    def copy(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        """Append many rows. Table and columns are constants of this package."""
        if rows:
            with (
                self.connection.cursor() as cursor,
                cursor.copy(cast(Any, f"COPY {table} ({columns}) FROM STDIN")) as copy,
            ):
                for row in rows:
                    copy.write_row(row)

    def _execute(self, sql: str, values: Values) -> Cursor[Row]:
        self._write_before(sql)
        return self.connection.execute(cast(Any, sql), values)

    def _write_before(self, sql: str) -> None:
        """Write what `append` was given for the tables that a statement names."""
        for table, columns in list(self._later):
            if table in _words(sql):
                self._write(table, columns)

    def _passed(self) -> float:
        return self._server.passed() if self._server is not None else 0.0

    def _tell(self, wall: int, asked: float) -> None:
        self.wall = wall
        if self._clock is not None:
            self.now = self._clock.now()
        elif self._server is not None:
            self.now = self._server.look(wall, self._note, asked)
        else:
            self.now = Instant(wall)
