"""Migrations, by Alembic. Expand first, contract a version later: an older replica must go on
working on the newer schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection
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
