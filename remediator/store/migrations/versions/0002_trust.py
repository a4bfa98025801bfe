"""What approvals, incidents and the storm breaker keep. Only additions, each with a default: the former
version goes on writing what it knows.

Version 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_code = "0001"

_UNDECIDED = sa.text("decision IS NULL")
_UNRESOLVED = sa.text("resolved_at IS NULL")
_BEGUN = sa.text("outcome IS NULL AND state NOT IN ('HOLD', 'GUARD', 'APPROVAL')")
_JUDGED = sa.text("outcome IN ('succeeded', 'reverted', 'escalated')")

# What the clock shows, and the note about it (`store/postgres/clock.py`). Who writes shares a lock with all
# others who do: 1380273476 and 4 are `CLASS` and `TIMING`.
_TIME = """
    CREATE FUNCTION remediator_time(writes boolean) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
      IF writes THEN
        PERFORM pg_advisory_xact_lock_shared(1380273476, 4);
      END IF;
      RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
        || ' ' || COALESCE((SELECT value FROM meta WHERE key = 'clock'), '');
    END $$
"""


def upgrade() -> None:
    op.add_column("intent", sa.Column("target", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_index(
        "run_judged",
        "run",
        ["policy", "updated_at"],
        unique=False,
        sqlite_where=_JUDGED,
        postgresql_where=_JUDGED,
    )
    op.create_index(
        "run_begun",
        "run",
        ["next_at"],
        unique=False,
        sqlite_where=_BEGUN,
        postgresql_where=_BEGUN,
    )
    op.add_column("approval", sa.Column("data", sa.Text(), server_default=sa.text("'{}'"), nullable=False))
    op.create_index(
        "approval_open",
        "approval",
        ["run"],
        unique=True,
        sqlite_where=_UNDECIDED,
        postgresql_where=_UNDECIDED,
    )
    op.add_column("incident", sa.Column("target", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "incident", sa.Column("updated_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("incident", sa.Column("next_at", sa.BigInteger(), nullable=True))
    op.add_column("incident", sa.Column("acknowledged_by", sa.Text(), nullable=True))
    op.create_index(
        "incident_open",
        "incident",
        ["target_key"],
        unique=True,
        sqlite_where=_UNRESOLVED,
        postgresql_where=_UNRESOLVED,
    )
    op.create_index(
        "incident_due",
        "incident",
        ["next_at"],
        unique=False,
        sqlite_where=_UNRESOLVED,
        postgresql_where=_UNRESOLVED,
    )
    op.create_table(
        "incident_run",
        sa.Column("incident", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attached_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incident", "run"),
    )
    op.create_index("incident_run_run", "incident_run", ["run"], unique=False)
    op.add_column("effect", sa.Column("lent_at", sa.BigInteger(), nullable=True))
    op.add_column("effect", sa.Column("renewed_at", sa.BigInteger(), nullable=True))
    op.add_column("effect", sa.Column("renewed_by", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("effect", sa.Column("renewals", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("effect", sa.Column("recalled_by", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("outbox", sa.Column("incident", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("notifier", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("posted", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "outbox_incident",
        "outbox",
        ["incident"],
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.create_table(
        "started",
        sa.Column("alert", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("alert"),
    )
    op.create_index("started_key", "started", ["key"], unique=True)
    op.create_index(
        "started_open",
        "started",
        ["alert"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "episode_count",
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "at"),
    )
    op.create_table(
        "notifier",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for counter in ("approval", "incident"):
            op.execute(f"CREATE SEQUENCE remediator_{counter}")
        op.execute(_TIME)
