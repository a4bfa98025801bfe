"""Migrations, by Alembic. Expand first, contract a version later: an older replica must go on
working on the newer schema.

Each version declares `oldest_code`: the oldest schema version whose code may still work once it is
applied. The greatest of them stands in `meta`, and older code refuses to start on it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.config import Config
    from psycopg import Connection
    from sqlalchemy import Connection as Connectable
    from sqlalchemy import Engine


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate an open SQLite database to the newest version, in one transaction.

    Loads Alembic and SQLAlchemy, which takes about a second: call it only when there is need.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    _upgrade(engine)


def migrate_postgres(connection: Connection[Any]) -> None:
    """Migrate a PostgreSQL database to the newest version, in one transaction. The connection is
    Alembic's from then on: close it afterwards."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    connection.autocommit = False
    _upgrade(create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool))


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect() as alembic_connection, alembic_connection.begin():
        config.attributes["connection"] = alembic_connection
        command.upgrade(config, "head")
        _declare(config, alembic_connection)


def _declare(config: Config, connection: Connectable) -> None:
    from alembic.script import ScriptDirectory
    from sqlalchemy import delete, insert

    from remediator.store.tables.control import meta

    scripts = ScriptDirectory.from_config(config).walk_revisions()
    oldest = max(script.module.oldest_code for script in scripts)
    connection.execute(delete(meta).where(meta.c.key == "oldest_code"))
    connection.execute(insert(meta).values(key="oldest_code", value=oldest))
