"""The two sides of a copy, whatever engine they are: a store that is taken so that nobody else uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from remediator.errors import ConfigurationError, Conflict, StoreError
from remediator.store.tx import Row, Tx


class Side(ABC):
    """A store that is held for the time of a copy. `close` lets go of it; what was not committed is gone.

    Raises (all methods):
        StoreError: the database did not do it.
    """

    tx: Tx
    more_tables: Sequence[str] = ()
    """Tables of this engine alone, which are not copied and must be empty all the same."""

    @abstractmethod
    def hold(self) -> None:
        """Keep everyone else out, and begin the transaction.

        Raises:
            StoreUnavailable: a daemon uses it.
            ConfigurationError: its schema is not this version's.
        """

    @abstractmethod
    def version(self) -> str | None:
        """The version of its schema; None if it has no tables. Keeps nobody out.

        Raises:
            ConfigurationError: it is no store, or one that only newer versions may work on.
        """

    @abstractmethod
    def make(self) -> None:
        """Make the tables, if there are none: of the side that is copied to, before `hold`."""

    @abstractmethod
    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """Every row, in no particular order."""

    @abstractmethod
    def write(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Append rows to an empty table."""

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Counter → the next id that it gives."""

    @abstractmethod
    def set_counters(self, counters: Mapping[str, int]) -> None: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def count(self, table: str) -> int:
        """How many rows a table has. Its name is a constant of this package."""
        # What a database says of its own schema is nobody's data.
        own = " WHERE key <> 'oldest_code'" if table == "meta" else ""
        row = self.tx.one(f"SELECT COUNT(*) FROM {table}{own}")  # noqa: S608
        return 0 if row is None else int(row[0])


class Named(Side):
    """A side whose address stands elsewhere than in `store.url`: what is wrong with it says where.

    Args:
        named_by: what people know it by, without a password.
    """

    def __init__(self, side: Side, named_by: str) -> None:
        self._side = side
        self._named_by = named_by
        self.more_tables = side.more_tables

    def hold(self) -> None:
        with blaming(self._named_by):
            self._side.hold()
        self.tx = self._side.tx

    def version(self) -> str | None:
        with blaming(self._named_by):
            return self._side.version()

    def make(self) -> None:
        with blaming(self._named_by):
            self._side.make()

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        with blaming(self._named_by):
            yield from self._side.rows(table, columns)

    def write(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        failed: list[Exception] = []

        def passing() -> Iterator[Row]:
            try:
                yield from rows
            except Exception as error:
                failed.append(error)  # of whoever gives them, and not of this side
                raise

        try:
            with blaming(self._named_by):
                self._side.write(table, columns, passing())
        except Exception:
            if failed:
                raise failed[0] from None
            raise

    def counters(self) -> Mapping[str, int]:
        with blaming(self._named_by):
            return self._side.counters()

    def set_counters(self, counters: Mapping[str, int]) -> None:
        with blaming(self._named_by):
            self._side.set_counters(counters)

    def commit(self) -> None:
        with blaming(self._named_by):
            self._side.commit()

    def close(self) -> None:
        self._side.close()


@contextmanager
def blaming(named_by: str) -> Iterator[None]:
    """What a store says of the address that it was opened by, said of where this one stands."""
    try:
        yield
    except (ConfigurationError, StoreError) as error:
        said = str(error).replace("store.url", named_by)
        if said == str(error):
            raise
        raise type(error)(said) from error


def side(url: str) -> Side:
    """The store at an address.

    Raises:
        ConfigurationError: it is no address of a store.
    """
    from remediator.store import path_of
    from remediator.store.postgres.side import PostgresSide
    from remediator.store.sqlite.side import SqliteSide

    if url.startswith(("postgresql://", "postgres://")):
        return PostgresSide(url)
    path = path_of(url)
    if path is None:
        raise StoreError("a store in memory cannot be copied")
    return SqliteSide(path)


def schema_version(url: str) -> str | None:
    """The version of a store's schema; None if it has no tables yet. Needs no lock.

    Raises:
        ConfigurationError: it is no store, or one that only newer versions may work on.
        StoreUnavailable: it cannot be reached.
    """
    made = side(url)
    try:
        return made.version()
    finally:
        made.close()


def must_be_empty(target: Side, tables: Iterable[str]) -> None:
    """Raise Conflict if a table has rows."""
    for table in tables:
        if target.count(table):
            raise Conflict(
                f"the destination holds rows already ({table}): name an empty database. "
                "If they are of a copy whose end was not seen, `audit verify` there, and use it"
            )
