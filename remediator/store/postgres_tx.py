"""`Tx` on one PostgreSQL connection."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from remediator.contracts import Clock, Hint
from remediator.model import Instant
from remediator.store.tx import NONE, Row, Values

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

CLASS = 0x52454D44
"""The first half of every advisory lock of this package."""
MIGRATING, NUMBERING, SEALING = 1, 2, 3
"""Second halves with a meaning of their own; named locks have the bits above these."""
CLOCK = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_BEGIN = f"BEGIN; SELECT {CLOCK}"
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {CLOCK}"
_LOCK = f"SELECT {CLOCK} FROM pg_advisory_xact_lock({CLASS}, %(key)s::int)"  # noqa: S608
_IDS = "SELECT remediator_ids(%(counter)s, %(count)s)"
_NAME = re.compile(r"(?<![:\w']):([a-z_]+)\b")
_texts: dict[str, str] = {}


def native(sql: str) -> str:
    """A statement of this package with its `:name` parameters as psycopg writes them."""
    found = _texts.get(sql)
    if found is None:
        found = _texts[sql] = _NAME.sub(r"%(\1)s", sql.replace("%", "%%"))
    return found


class PostgresTx:
    """Statements on one connection, which is in autocommit: `begin` and the caller's COMMIT are
    spoken out loud.

    Args:
        clock: None for the database's own.
    """

    def __init__(self, connection: Connection[Row], clock: Clock | None) -> None:
        self.connection = connection
        self._clock = clock
        self._reserved: dict[str, tuple[int, int]] = {}
        self.now = Instant(0)
        self.hinted: set[Hint] = set()
        """What to let the other replicas look at, once this transaction is committed."""

    def hint(self, hint: Hint) -> None:
        self.hinted.add(hint)

    def begin(self, *, read_only: bool = False) -> None:
        """Begin, and ask what time it is, in one round trip."""
        self._reserved.clear()
        self.hinted = set()
        cursor = self.connection.execute(_BEGIN_READ if read_only else _BEGIN, prepare=False)
        cursor.nextset()
        self._tell(cursor.fetchone())

    def lock(self, name: str) -> None:
        # Whoever waited looks at the clock again: what it counts must not be older than its turn.
        key = (zlib.crc32(name.encode()) & 0x7FFFFFF0) + 16
        self._tell(self._execute(_LOCK, {"key": key}).fetchone())

    def id(self, counter: str, count: int = 1) -> int:
        first, left = self._reserved.get(counter, (0, 0))
        if left >= count:
            self._reserved[counter] = (first + count, left - count)
            return first
        row = self._execute(_IDS, {"counter": counter, "count": count}).fetchone()
        return 0 if row is None else int(row[0])

    def reserve(self, counter: str, count: int) -> None:
        """Fetch ids that this transaction will want, in one round trip. What it does not use is lost."""
        if count > 1:
            self._reserved.pop(counter, None)
            self._reserved[counter] = (self.id(counter, count), count)

    def run(self, sql: str, values: Values = NONE) -> int:
        return self._execute(native(sql), values).rowcount

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        if len(rows) == 1:
            self._execute(native(sql), rows[0])
        elif rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(cast(Any, native(sql)), rows)

    def change(self, sql: str, values: Values = NONE) -> list[Row]:
        return self.all(sql, values)

    def all(self, sql: str, values: Values = NONE) -> list[Row]:
        return self._execute(native(sql), values).fetchall()

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
        return self.connection.execute(cast(Any, sql), values)

    def _tell(self, row: Row | None) -> None:
        if self._clock is not None:
            self.now = self._clock.now()
        elif row is not None:
            self.now = Instant(row[0])
