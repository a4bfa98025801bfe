"""An SQLite file as a side of a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from remediator.clock import SystemClock
from remediator.errors import StoreUnavailable
from remediator.store import upgrade
from remediator.store.sides import Side
from remediator.store.sqlite.file import Lock, check_place, connect, unavailable
from remediator.store.sqlite.tx import COUNTERS, SqliteTx
from remediator.store.tx import Row


class SqliteSide(Side):
    """A file. Its lock proves that no daemon has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: Lock | None = None
        self._connection: sqlite3.Connection | None = None

    def version(self) -> str | None:
        if not self._path.exists():
            check_place(self._path)
            return None
        try:
            self._connection = connect(self._path, read_only=True)
            found = upgrade.version(self._connection)
            if found is not None:
                upgrade.refuse_newer(found, upgrade.oldest_code(self._connection))
            return found
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def make(self) -> None:
        self._take(check_place(self._path))
        assert self._connection is not None
        if upgrade.version(self._connection) is None:
            upgrade.bring_up_to_date(self._connection, self._path)

    def hold(self) -> None:
        if self._connection is None:
            if not self._path.exists():
                raise StoreUnavailable(f"there is no store at {self._path}")
            self._take(check_place(self._path))
        assert self._connection is not None
        upgrade.must_be_current(self._connection)
        tx = SqliteTx(self._connection)
        tx.now = SystemClock().now()
        tx.load_ids()
        tx.begin()
        self.tx = tx

    def _take(self, path: Path) -> None:
        self._lock = Lock(path)
        self._lock.take()
        try:
            self._connection = connect(path)
        except sqlite3.Error as error:
            raise unavailable(error, path) from error

    @property
    def _own(self) -> SqliteTx:
        return cast(SqliteTx, self.tx)

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        return iter(self._own.connection.execute(f"SELECT {', '.join(columns)} FROM {table}"))  # noqa: S608

    def write(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
        self._own.connection.executemany(sql, rows)

    def counters(self) -> Mapping[str, int]:
        return {counter: self._own.last_id(counter) + 1 for counter in COUNTERS}

    def set_counters(self, counters: Mapping[str, int]) -> None:
        self._own.load_ids()
        for counter, next_id in counters.items():
            self._own.skip_ids(counter, next_id)
        self._own.save_ids()

    def commit(self) -> None:
        try:
            self._own.connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._lock is not None:
            self._lock.free()
