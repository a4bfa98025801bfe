"""A PostgreSQL database as a side of a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from remediator.errors import StoreUnavailable
from remediator.store import VERSION
from remediator.store.limits import Limits
from remediator.store.postgres import schema as postgres_schema
from remediator.store.postgres.link import CommitLost, Link, tell
from remediator.store.postgres.opening import check_driver
from remediator.store.sides import Side
from remediator.store.sqlite.tx import COUNTERS
from remediator.store.tx import Row
from remediator.store.upgrade import oldest_code, refuse_newer

_AT_ONCE = 1_000
"""Rows that are in memory at once."""
_OTHERS = """
SELECT client_addr FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'remediator%'
"""
_SEQUENCE = "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM remediator_{}"
_SET_SEQUENCE = "SELECT setval(CAST(:name AS regclass), :last, true)"


class PostgresSide(Side):
    """A database. No daemon may be connected to it, and while it is copied nobody may write to it."""

    more_tables = ("alert_seen",)

    def __init__(self, address: str) -> None:
        self._address = address
        self._link: Link | None = None

    def version(self) -> str | None:
        self._link = self._connect()
        found = postgres_schema.version(self._link.connection)
        if found is None or found < VERSION:
            postgres_schema.must_create(self._link.connection)
        else:
            refuse_newer(found, oldest_code(self._link.connection))
        return found

    def make(self) -> None:
        link = self._connect()
        try:
            if postgres_schema.version(link.connection) is None:
                postgres_schema.bring_up_to_date(link.connection)
        finally:
            link.close()

    def hold(self) -> None:
        from remediator.store.schema import metadata

        self._link = link = self._connect()
        postgres_schema.must_be_current(link.connection)
        connection = link.connection
        # Nothing in here is short, and nobody waits for it.
        connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        self.tx = link.tx
        link.tx.begin()
        tables = ", ".join(table.name for table in metadata.sorted_tables)
        self._must_be_alone()
        self._or_told(lambda: link.tx.run(f"LOCK TABLE {tables} IN EXCLUSIVE MODE"))
        self._must_be_alone()

    def _must_be_alone(self) -> None:
        others = self._own.tx.all(_OTHERS)
        if others:
            at = ", ".join(sorted({str(row[0] or "local") for row in others}))
            raise StoreUnavailable(f"daemons are connected to the database (from {at}); stop them first")

    def _connect(self) -> Link:
        check_driver()
        return Link(self._address, Limits(), None, seconds=10)

    @staticmethod
    def _or_told(work: Any) -> Any:
        try:
            return work()
        except Exception as error:
            raise tell(error) from error

    @property
    def _own(self) -> Link:
        assert self._link is not None
        return self._link

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        with self._own.connection.cursor(name="copied") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(cast(Any, f"SELECT {', '.join(columns)} FROM {table}"))  # noqa: S608
            yield from cursor

    def write(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        left = iter(rows)
        while some := list(islice(left, _AT_ONCE)):
            self._or_told(lambda some=some: self._own.tx.copy(table, ", ".join(columns), some))

    def counters(self) -> Mapping[str, int]:
        found = {}
        for counter in COUNTERS:
            row = self._own.tx.one(_SEQUENCE.format(counter))
            found[counter] = 1 if row is None else int(row[0])
        return found

    def set_counters(self, counters: Mapping[str, int]) -> None:
        # Given out as far as before: a sealer goes by the last number that was.
        for counter, next_id in counters.items():
            if next_id > 1:
                self._own.tx.all(_SET_SEQUENCE, {"name": f"remediator_{counter}", "last": next_id - 1})

    def commit(self) -> None:
        try:
            self._own.tx.flush()
            self._own.commit()
        except CommitLost as lost:
            raise StoreUnavailable(f"nobody knows whether it was committed ({lost.__cause__})") from lost

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
