"""Migrations, by Alembic. Expand first, contract a version later: an older replica must go on
working on the newer schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate an open SQLite database to the newest version, in one transaction.

    Loads Alembic and SQLAlchemy, which takes about a second: call it only when there is need.
    """
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.connect() as alembic_connection, alembic_connection.begin():
        config.attributes["connection"] = alembic_connection
        command.upgrade(config, "head")
