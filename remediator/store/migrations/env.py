"""Alembic's entry: runs the migrations on the connection that it was handed."""

from __future__ import annotations

from alembic import context

from remediator.store.schema import metadata

connection = context.config.attributes["connection"]
# The caller's transaction holds all of it; SQLite changes tables inside one.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
