"""Brings a PostgreSQL database to this version's schema: one replica migrates, the others wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import ConfigurationError
from remediator.store import VERSION
from remediator.store.postgres.tx import CLASS, MIGRATING
from remediator.store.upgrade import NUMBER, oldest_code, recognised, refuse_newer

if TYPE_CHECKING:
    from psycopg import Connection

    from remediator.store.tx import Row

_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
_MAY = """
SELECT current_user, current_database(), current_schema(), has_schema_privilege(current_schema(), 'CREATE')
"""
_WAIT = "SET statement_timeout = 0; SET lock_timeout = 0"


def version(connection: Connection[Row]) -> str | None:
    """The schema's version; None if there are no tables.

    Raises:
        ConfigurationError: there are tables, but not remediator's.
    """
    tables = {row[0] for row in connection.execute(_TABLES)}
    return recognised(
        tables,
        lambda: connection.execute(NUMBER).fetchone(),
        "give remediator a database, or a schema in its search_path, of its own",
    )


def bring_up_to_date(connection: Connection[Row]) -> None:
    """Make the tables, or migrate older ones, in one transaction under a lock that lasts with the
    connection.

    Args:
        connection: its own, for its time limits are lifted.

    Raises:
        ConfigurationError: a newer version has migrated it already, or this role may not make tables.
    """
    found = version(connection)
    if _usable(connection, found):
        return
    must_create(connection)
    connection.execute(_WAIT, prepare=False)
    connection.execute(f"SELECT pg_advisory_lock({CLASS}, {MIGRATING})")
    if not _usable(connection, version(connection)):
        from remediator.store.migrations import migrate_postgres

        migrate_postgres(connection)


def must_create(connection: Connection[Row]) -> None:
    """Raise ConfigurationError unless this role may make tables. From PostgreSQL 15 on, nobody but its owner
    may do so in the schema `public` of a new database (its release notes, "Migration to Version 15")."""
    row = connection.execute(_MAY).fetchone()
    assert row is not None
    role, database, schema, may = row
    if schema is None:
        raise ConfigurationError(
            f"store.url: no schema of the search_path of role {role} exists in database {database}; "
            "make one, or set search_path"
        )
    if not may:
        raise ConfigurationError(
            f"store.url: the role {role} may not make tables in schema {schema} of database {database}; "
            f"let it own the database, or GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
        )


def _usable(connection: Connection[Row], found: str | None) -> bool:
    """Whether the schema is this version's, or a later one that this version may work on."""
    if found is None or found < VERSION:
        return False
    refuse_newer(found, oldest_code(connection))
    return True


def must_be_current(connection: Connection[Row]) -> None:
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
