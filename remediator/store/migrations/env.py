"""Alembic's entry: runs the migrations on the connection that it was handed."""

from __future__ import annotations

from alembic import context

from remediator.store.schema import metadata

connection = context.config.attributes["connection"]
# The caller has begun the transaction and ends it: all migrations, or none.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
