"""`Tx` on one SQLite connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
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


@cache
def _append(table: str, columns: str) -> str:
    marks = ", ".join("?" * len(columns.split(",")))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608


@cache
def _listed(sql: str, name: str) -> str:
    """A statement with its `IN (:name)` as SQLite takes a list of numbers: as JSON."""
    return sql.replace(f"IN (:{name})", f"IN (SELECT value FROM json_each(:{name}))")  # noqa: S608


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
        return self.connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        if rows:
            self.begin()
            self.connection.executemany(sql, rows)

    def append(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        if rows:
            self.begin()
            self.connection.executemany(_append(table, columns), rows)

    def former(self, sql: str, values: Values, name: str = "", among: Sequence[object] = ()) -> list[Row]:
        if not name:
            return self.all(sql, values)
        # One by one, which costs a few µs each: JSON, the way to hand SQLite a list, ends a text at a NUL.
        one = sql.replace(f"IN (:{name})", f"= :{name}")
        return [row for value in among for row in self.all(one, {**values, name: value})]

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
        return self.connection.execute(sql, values).fetchall()

    def hold(self, sql: str, values: Values, name: str = "", among: Sequence[int] = ()) -> list[int]:
        return [row[0] for row in self.change(sql, values, name, among)]

    def all(self, sql: str, values: Values = NONE) -> list[Row]:
        return self.connection.execute(sql, values).fetchall()

    def any(self, sql: str, name: str, ids: Sequence[int]) -> list[Row]:
        return self.all(_listed(sql, name), {name: str(list(ids))}) if ids else []

    def one(self, sql: str, values: Values = NONE) -> Row | None:
        row: Row | None = self.connection.execute(sql, values).fetchone()
        return row
