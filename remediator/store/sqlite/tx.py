"""`Tx` on one SQLite connection."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar, cast

from remediator.contracts import Hint
from remediator.model import Instant
from remediator.store.tx import NONE, Row, Values

T = TypeVar("T")
COUNTERS = {
    "alert": ("alert",),
    "audit": ("alert_event", "audit_event"),
    "run": ("run",),
    "intent": ("intent",),
    "effect": ("effect",),
    "approval": ("approval",),
    "incident": ("incident",),
    "outbox": ("outbox",),
    "rejected": ("rejected",),
}
"""Counter → the tables that it gives ids to."""


_ROWS = 64
"""Rows in one INSERT at most: each statement gives up Python's lock once, and must win it back. The number of
parameters stays far below SQLite's bound of 32,766."""
_WORD = re.compile(r"[a-z_]+")

Waiting = Mapping[tuple[str, str], tuple[list[Row], int]]
"""(table, columns) → rows that are to be inserted, and how many of them were at that moment."""


class Spoilt(Exception):
    """Work that was done together could not be written together: nothing of it may be kept."""


@cache
def _append(table: str, columns: str, rows: int) -> str:
    marks = ", ".join("?" * len(columns.split(",")))
    # OR FAIL: a fault undoes the whole group or its savepoint anyway, so SQLite need not copy every page
    # before it changes it, just to be able to undo this one statement.
    return f"INSERT OR FAIL INTO {table} ({columns}) VALUES {', '.join([f'({marks})'] * rows)}"  # noqa: S608


@cache
def _words(sql: str) -> frozenset[str]:
    """Every name in a statement, the tables among them."""
    return frozenset(_WORD.findall(sql))


def _portions(rows: int) -> list[int]:
    """Powers of two that add up to so many rows: few statements, and few different ones to prepare."""
    return [_ROWS] * (rows // _ROWS) + [size for size in (32, 16, 8, 4, 2, 1) if rows % _ROWS & size]


@cache
def _listed(sql: str, name: str) -> str:
    """A statement with its `IN (:name)` as SQLite takes a list of numbers: as JSON."""
    return sql.replace(f"IN (:{name})", f"IN (SELECT value FROM json_each(:{name}))")  # noqa: S608


@cache
def _each(sql: str, name: str, count: int) -> str:
    """A statement with its `IN (:name)` as so many parameters."""
    marks = ", ".join(f":{name}{at}" for at in range(count))
    return sql.replace(f"IN (:{name})", f"IN ({marks})")


class SqliteTx:
    """Statements on one connection. The first write begins the transaction, taking the write lock.

    Ids come from memory: the process owns the file. Ids of a transaction that is rolled back are
    not given out again, so an id never means two things.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.now = Instant(0)
        self.then: Callable[[], None] | None = None
        """What is to be done once this is committed, before anything else is begun."""
        self.gathers = False
        """Whether what is appended may wait until the whole group is written. Whoever lets it wait calls
        `flush`, and does the group again without when that raises."""
        self._later: dict[tuple[str, str], list[Row]] = {}
        self._next: dict[str, int] = {}
        self._known: dict[str, Any] = {}

    def load_ids(self) -> None:
        """Find where each counter stands: behind the last row, and behind any that was pruned."""
        for counter, tables in COUNTERS.items():
            last = [self.one(f"SELECT MAX(id) FROM {table}") for table in tables]  # noqa: S608
            rows = [row[0] for row in last if row is not None and row[0] is not None]
            self._next[counter] = max(rows, default=0) + 1
        # The last delivery owns ids behind its own.
        tail = self.one("SELECT id + json_array_length(changes) FROM alert_event ORDER BY id DESC LIMIT 1")
        if tail is not None:
            self._next["audit"] = max(self._next["audit"], tail[0])
        for key, value in self.all("SELECT key, value FROM meta WHERE key LIKE 'next:%'"):
            counter = key.removeprefix("next:")
            self._next[counter] = max(self._next.get(counter, 1), int(value))

    def save_ids(self) -> None:
        """Keep the counters beyond rows that are about to be deleted."""
        for counter, next_id in self._next.items():
            self.run(
                "INSERT INTO meta (key, value) VALUES (:key, :value) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                {"key": f"next:{counter}", "value": str(next_id)},
            )

    def skip_ids(self, counter: str, next_id: int) -> None:
        """Give out no id below this one any more."""
        self._next[counter] = max(self._next.get(counter, 1), next_id)

    def last_id(self, counter: str) -> int:
        """The last id that was given out."""
        return self._next[counter] - 1

    def id(self, counter: str, count: int = 1) -> int:
        first = self._next[counter]
        self._next[counter] = first + count
        return first

    def lock(self, name: str) -> None:
        """One writer only: there is nobody to keep out."""

    def hint(self, hint: Hint) -> None:
        """One process only: there is nobody to tell."""

    def begin(self) -> None:
        """Begin the transaction, unless one is under way."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def committed(self) -> None:
        """Do what was to be done then."""
        then, self.then = self.then, None
        if then is not None:
            then()

    def run(self, sql: str, values: Values = NONE) -> int:
        self.begin()
        return self._execute(sql, values).rowcount

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        if rows:
            self.begin()
            self._ahead(sql)
            self.connection.executemany(sql, rows)

    def append(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self.begin()
        if self.gathers:
            self._later.setdefault((table, columns), []).extend(rows)
        else:
            self._insert(table, columns, rows)

    def flush(self) -> None:
        """Write what was appended and waits.

        Raises:
            Spoilt: one of the rows cannot be written, and nobody knows any more whose it is.
        """
        for table, columns in list(self._later):
            self._write(table, columns)

    def waiting(self) -> Waiting:
        """What waits to be written now, for `restore`."""
        return {key: (rows, len(rows)) for key, rows in self._later.items()}

    def restore(self, waiting: Waiting) -> None:
        """What came since is undone; what was written since waits again, for that is undone with it."""
        self._later = {key: rows[:count] for key, (rows, count) in waiting.items()}

    def _write(self, table: str, columns: str) -> None:
        rows = self._later.pop((table, columns))
        try:
            self._insert(table, columns, rows)
        except Exception as error:
            raise Spoilt from error

    def _insert(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        begin = 0
        for size in _portions(len(rows)):
            values = list(chain.from_iterable(rows[begin : begin + size]))
            self.connection.execute(_append(table, columns, size), values)
            begin += size

    def _ahead(self, sql: str) -> None:
        """Write what waits for a table that this statement names."""
        if self._later:
            words = _words(sql)
            for table, columns in list(self._later):
                if table in words:
                    self._write(table, columns)

    def _execute(self, sql: str, values: Values) -> sqlite3.Cursor:
        if self._later:
            self._ahead(sql)
        return self.connection.execute(sql, values)

    def former(self, sql: str, values: Values, name: str = "", among: Sequence[object] = ()) -> list[Row]:
        if not name:
            return self.connection.execute(sql, values).fetchall()
        # Each by a parameter of its own: JSON, the way to hand SQLite a list, ends a text at a NUL.
        found: list[Row] = []
        begin = 0
        for size in _portions(len(among)):
            own = {f"{name}{at}": value for at, value in enumerate(among[begin : begin + size])}
            found += self.connection.execute(_each(sql, name, size), {**values, **own}).fetchall()
            begin += size
        return found

    def known(self, name: str, read: Callable[[], T]) -> T:
        if name not in self._known:
            self._known[name] = read()
        return cast(T, self._known[name])

    def unknown(self, name: str) -> None:
        self._known.pop(name, None)

    def forget(self) -> None:
        """What is known holds no longer: another transaction begins, or something was rolled back."""
        self._known.clear()

    def change(self, sql: str, values: Values = NONE, name: str = "", among: Sequence[int] = ()) -> list[Row]:
        self.begin()
        if name:
            sql, values = _listed(sql, name), {**values, name: str(list(among))}
        return self._execute(sql, values).fetchall()

    def hold(self, sql: str, values: Values, name: str = "", among: Sequence[int] = ()) -> list[int]:
        return [row[0] for row in self.change(sql, values, name, among)]

    def all(self, sql: str, values: Values = NONE) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def any(self, sql: str, name: str, ids: Sequence[int]) -> list[Row]:
        return self.all(_listed(sql, name), {name: str(list(ids))}) if ids else []

    def one(self, sql: str, values: Values = NONE) -> Row | None:
        row: Row | None = self._execute(sql, values).fetchone()
        return row
