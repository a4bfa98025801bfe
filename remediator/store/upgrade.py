"""Brings a file's schema to this version. A current one is recognised without loading Alembic."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from remediator.errors import ConfigurationError
from remediator.store import VERSION
from remediator.store.tx import Row

_OLDEST_CODE = "SELECT value FROM meta WHERE key = 'oldest_code'"
NUMBER = "SELECT version_num FROM alembic_version"
_SCHEMA = Path(__file__).with_name("schema.sql")


def version(connection: sqlite3.Connection) -> str | None:
    """The file's schema version; None if it is empty.

    Raises:
        ConfigurationError: it is a database, but not one of remediator's.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return recognised(
        tables, lambda: connection.execute(NUMBER).fetchone(), "name a file of its own for remediator"
    )


def recognised(tables: Set[str], number: Callable[[], Row | None], instead: str) -> str | None:
    """The version of a schema by its tables; None if there are none.

    Args:
        number: reads `NUMBER`.
        instead: what to do where it is not remediator's.

    Raises:
        ConfigurationError: there are tables, but not remediator's.
    """
    if not tables:
        return None
    row = number() if {"alembic_version", "alert_event", "meta"} <= tables else None
    if row is None:
        shown = ", ".join(sorted(tables)[:5])
        raise ConfigurationError(f"store.url: the database holds other tables ({shown}); {instead}")
    return str(row[0])


def bring_up_to_date(connection: sqlite3.Connection, path: Path | None) -> None:
    """Make the tables, or migrate those of an older version. One transaction: all of it or nothing.

    Raises:
        ConfigurationError: the file was written by a newer version that this one may not work on.
    """
    found = version(connection)
    if found is not None and found >= VERSION:
        refuse_newer(found, oldest_code(connection))
        return
    if found is None:
        script = _SCHEMA.read_text()
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return
    if path is None:
        raise ConfigurationError("a store in memory has no older schema to migrate")
    from remediator.store.migrations import migrate

    migrate(connection)


def oldest_code(connection: Any) -> str | None:
    """The oldest version whose code may still work on this schema, as its migrations declare it; None if
    it does not say. The same statement on both engines."""
    row = connection.execute(_OLDEST_CODE).fetchone()
    return None if row is None else str(row[0])


def refuse_newer(found: str, oldest: str | None) -> None:
    """Raise ConfigurationError for a version that this one does not know and may not work on.

    Args:
        oldest: what the schema says by `oldest_code`.
    """
    if found > VERSION and (oldest is None or oldest > VERSION):
        least = f"; the oldest that may work on it is {oldest}" if oldest is not None else ""
        raise ConfigurationError(
            f"the store's schema is version {found}, this remediator knows {VERSION}{least}: "
            "start the newer version, or restore the backup from before the upgrade"
        )


def must_be_current(connection: sqlite3.Connection) -> None:
    """For readers, which change nothing.

    Raises:
        ConfigurationError: the schema is not this version's.
    """
    found = version(connection)
    if found is None:
        raise ConfigurationError("the store is empty: start the daemon once, which makes its tables")
    refuse_newer(found, oldest_code(connection))
    if found < VERSION:
        raise ConfigurationError(
            f"the store's schema is version {found}, this remediator reads {VERSION}: "
            "start the daemon once, which migrates it"
        )
