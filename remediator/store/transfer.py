"""Copies a whole store to another engine: all or nothing, proven before it counts.

Everything is one transaction of the destination. Before its commit every table is read back and
compared, and the audit chain is verified there up to the source's own head. Just before the commit
the source is marked, so that no daemon goes on in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from remediator.contracts import SealReport
from remediator.errors import Conflict, StoreError, StoreUnavailable
from remediator.model import AuditEvent
from remediator.store import claims, moved, trail, verify
from remediator.store.sides import Named, Side, must_be_empty
from remediator.store.tx import Row

Told = Callable[[str, int, int], None]
"""(what is being done, so many done, of so many): for a display of progress."""
_TELL_EVERY = 500


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied. counts: table → rows. head: of the audit chain, the same on both sides."""

    counts: Mapping[str, int]
    head: str
    sealed: int
    unsealed: int


@dataclass(slots=True)
class _Sum:
    """Rows counted and hashed, whatever their order."""

    count: int = 0
    total: int = 0

    def add(self, row: Row) -> None:
        self.count += 1
        digest = hashlib.sha256(repr(row).encode()).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % (1 << 256)


def transfer(
    source: Side,
    target: Side,
    key: bytes | None,
    *,
    names: tuple[str, str],
    actor: str,
    told: Told,
    named_by: str = "the destination",
) -> Copied:
    """Copy everything.

    Args:
        key: of the audit chain, as in settings.
        names: of source and destination, without passwords, for the records.
        named_by: where the destination's address comes from, for what is wrong with it.

    Raises:
        Conflict: the destination holds rows, or the source's audit log is not whole.
        StoreUnavailable: one of them is in use, or cannot be reached.
        ConfigurationError: one of them cannot be used as it is.
        StoreError: what was written is not what was read; nothing is kept.
    """
    source.hold()
    _must_not_be_elsewhere(source, names[1])
    told("audit log", 0, 0)
    before = verify.verify(source.tx, key, None)
    _must_be_whole(before)
    tables = _tables()
    target = Named(target, named_by)
    target.make()
    target.hold()
    must_be_empty(target, (*tables, *target.more_tables))
    counts = {}
    for table, columns in tables.items():
        counts[table] = _table(source, target, table, columns, told)
    target.set_counters(source.counters())
    # Whoever had claimed a run is dead: that is what holding the source proves.
    claims.reclaim(target.tx)
    told("audit log, copied", 0, 0)
    after = verify.verify(target.tx, key, before.head or None)
    if (after.head, after.sealed, after.unsealed) != (before.head, before.sealed, before.unsealed):
        raise StoreError(f"the audit chain came out as {after.head}, not as {before.head}; nothing was kept")
    _must_be_whole(after)
    data = {"from": names[0], "to": names[1], "head": before.head, "rows": sum(counts.values())}
    trail.append(target.tx, (AuditEvent(kind="store.copied", actor=actor, data=data),))
    _commit(source, target, names[1])
    return Copied(counts, before.head, before.sealed, before.unsealed)


def _must_not_be_elsewhere(source: Side, to: str) -> None:
    """To the same destination again: the end of the first copy may not have been seen. To another one:
    then the same runs would go on in two places."""
    former = moved.where(source.tx)
    if former and former != to:
        raise Conflict(
            f"this store was copied to {former}, where its runs go on: use that. "
            "Should that copy never have been used: remediator store reopen --comment …, then copy again"
        )


def _tables() -> Mapping[str, Sequence[str]]:
    from remediator.store.schema import metadata

    return {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}


def _table(source: Side, target: Side, table: str, columns: Sequence[str], told: Told) -> int:
    """Copy a table, and read it back."""
    of = source.count(table)
    read, kept = _Sum(), _Sum()

    def passing(rows: Iterable[Row], into: _Sum, what: str) -> Iterator[Row]:
        for row in rows:
            if table == "meta" and _own_business(str(row[0])):
                continue
            plain = tuple(_plain(value) for value in row)
            into.add(plain)
            if into.count % _TELL_EVERY == 0:
                told(what, into.count, of)
            yield plain

    target.write(table, columns, passing(source.rows(table, columns), read, table))
    for _ in passing(target.rows(table, columns), kept, f"{table}, read back"):
        pass
    if kept != read:
        raise StoreError(
            f"{table}: {read.count} rows were read and {kept.count} came out, or not the same; "
            "nothing was kept"
        )
    told(table, of, of)
    return read.count


def _own_business(key: str) -> bool:
    """Whether a row of `meta` is about the database itself."""
    return key in (moved.KEY, "server", "clock", "oldest_code") or key.startswith("next:")


def _plain(value: object) -> object:
    """As both engines give it. PostgreSQL's text holds no NUL; the daemon writes it likewise there."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    return bytes(value) if isinstance(value, memoryview) else value


def _must_be_whole(report: SealReport) -> None:
    if not report.whole:
        wrong = (*report.missing, *report.changed, *(f"seal {number}" for number in report.broken))
        raise Conflict(
            f"the audit log is not whole ({', '.join(wrong[:5])}): see remediator audit verify. "
            "A copy would lose the proof of when that came about"
        )


def _commit(source: Side, target: Side, to: str) -> None:
    """Mark the source first: if the commit then fails, it is not used by mistake, it is only marked."""
    moved.mark(source.tx, to)
    source.commit()
    try:
        target.commit()
    except StoreError as error:
        raise StoreUnavailable(
            f"{error}. The source is marked as copied to {to}. If the copy is there, use it; "
            "if it is not, copy again, or take the source back: remediator store reopen --comment …"
        ) from error
