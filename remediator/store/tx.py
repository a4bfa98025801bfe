"""What the statements of this package run in: one transaction of whichever engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from remediator.contracts import Hint
from remediator.model import Instant

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]
NONE: Values = {}
OPENINGS = "openings"
"""Opening runs: the count of open runs is what it says, and a target has one run."""
RETURNS = "returns"
"""Turning leases that ran out into runs."""
BRAKES = "brakes"
"""ADMIT, and whatever it must not miss: a brake, another policy set. It is the global counter too:
every budget is counted and every target's lock is taken under it."""
UPKEEP = "upkeep"
"""Deleting what is old."""
LOCKS = (OPENINGS, RETURNS, BRAKES, UPKEEP)


class Undo(Exception):
    """Carries an answer that must leave nothing behind."""

    def __init__(self, answer: object) -> None:
        super().__init__("rolled back")
        self.answer = answer


class Tx(Protocol):
    """One transaction. Statements are portable SQL with `:name` parameters, never built from values.

    Reading before the first write takes no lock; the first write begins the transaction.
    """

    now: Instant
    """The store's clock when this piece of work began."""

    def run(self, sql: str, values: Values = NONE) -> int:
        """Write; returns how many rows."""

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        """Write the same statement for every row."""

    def append(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        """Insert rows, at the latest before another statement names the table, or at the transaction's
        end. Table and columns are constants of this package."""

    def former(self, sql: str, values: Values, name: str = "", among: Sequence[object] = ()) -> list[Row]:
        """As `all`, of what is there without the rows that this transaction has appended and not written
        yet: the caller knows those himself.

        Args:
            name, among: the statement says `IN (:name)`, as in `any`, and these are the values.
        """

    def change(self, sql: str, values: Values = NONE, name: str = "", among: Sequence[int] = ()) -> list[Row]:
        """Write; returns what RETURNING says, if it is there. Args: name, among: as in `former`."""

    def hold(self, sql: str, values: Values, name: str = "", among: Sequence[int] = ()) -> list[int]:
        """The ids of the rows of `run` that are to be written, locked in their order: whoever writes several
        does so in that order, and two of them never wait for each other. Where only one writes, this only
        reads.

        Args:
            sql: `SELECT id FROM run WHERE …`.
            name, among: as in `former`.
        """

    def all(self, sql: str, values: Values = NONE) -> list[Row]: ...

    def one(self, sql: str, values: Values = NONE) -> Row | None: ...

    def any(self, sql: str, name: str, ids: Sequence[int]) -> list[Row]:
        """Read where a column is one of these ids: the statement says `IN (:name)`. Without ids it reads
        nothing."""

    def lock(self, name: str) -> None:
        """Until this transaction ends, no other that names the same lock goes on beside it. What is
        read after this is what the others have committed. Nothing to do where only one writes.

        Locks are taken in the order of `LOCKS`, after any rows of `run`.
        """

    def known(self, name: str, read: Callable[[], T]) -> T:
        """What `read` gives, which cannot change until this transaction ends: where one transaction does
        the work of several, it is read once.

        Args:
            name: of what it is; `unknown` with the same name makes it be read again.
        """

    def unknown(self, name: str) -> None:
        """This transaction has changed it."""

    def id(self, counter: str, count: int = 1) -> int:
        """The first of `count` new consecutive ids."""

    def hint(self, hint: Hint) -> None:
        """Let the other processes look, once this is committed. Nothing to do where there are none."""


def insert(table: str, columns: str) -> str:
    """`INSERT` with a `:column` for every column. Both arguments are constants of this package."""
    names = [name.strip() for name in columns.split(",")]
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(':' + name for name in names)})"  # noqa: S608


class Where:
    """Collects the conditions of a search. Conditions are constants; only values come from outside."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.values: dict[str, object] = {}

    def add(self, condition: str, **values: object) -> None:
        """A condition that always holds."""
        self._conditions.append(condition)
        self.values.update(values)

    def equal(self, column: str, value: object | None) -> None:
        """`column = value`, unless the value is None."""
        if value is not None:
            self.add(f"{column} = :{column}", **{column: value})

    def select(self, columns: str, source: str, rest: str) -> str:
        """The whole statement."""
        where = f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        return f"SELECT {columns} FROM {source}{where} {rest}"  # noqa: S608
