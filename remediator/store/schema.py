"""The tables (`tables`), once for every engine. Text columns hold JSON where the comment says so.

Importing this costs half a second (SQLAlchemy), so a running daemon does not: `schema.sql` is
what they compile to for SQLite, and a test keeps the two equal. After a change here:
write a migration, set `remediator.store.VERSION`, and run `python -m remediator.store.schema`.

There are no foreign keys: retention deletes each table by its own age, and intake must not pay
for a look-up that the same transaction has just made true.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from remediator.store import OLDEST_CODE, VERSION
from remediator.store.tables import alerts, audit, control, people, runs
from remediator.store.tables.columns import metadata

__all__ = ["TABLES", "compiled", "metadata"]

TABLES = (alerts, audit, control, people, runs)
"""The modules that declare them."""

_SQL = Path(__file__).with_name("schema.sql")


def compiled() -> str:
    """The whole schema as SQL for SQLite, Alembic's version row included."""
    dialect = sqlite.dialect()
    statements = ["CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"]
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes]
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{VERSION}')")  # noqa: S608
    statements.append(f"INSERT INTO meta (key, value) VALUES ('oldest_code', '{OLDEST_CODE}')")  # noqa: S608
    lines = (line.rstrip() for line in ";\n".join(statements).splitlines())
    return "-- Compiled from schema.py; do not edit.\n" + "\n".join(lines) + ";\n"


if __name__ == "__main__":
    _SQL.write_text(compiled())
