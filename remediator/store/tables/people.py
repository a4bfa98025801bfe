"""What people are asked and told: approvals, incidents, messages."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text
from sqlalchemy import text as sql

from remediator.store.tables.columns import id, instant, json, metadata, text

_UNDECIDED = sql("decision IS NULL")
_UNRESOLVED = sql("resolved_at IS NULL")

approval = Table(
    "approval",
    metadata,
    id(),
    Column("run", BigInteger, nullable=False),
    text("plan"),  # JSON model.Plan
    text("role"),
    instant("asked_at"),
    instant("expires_at"),
    text("decision", nullable=True),
    text("actor", nullable=True),
    text("comment", nullable=True),
    instant("decided_at", nullable=True),
    json("data"),
    Index("approval_run", "run"),
    # A run asks one question at a time.
    Index("approval_open", "run", unique=True, sqlite_where=_UNDECIDED, postgresql_where=_UNDECIDED),
)

incident = Table(
    "incident",
    metadata,
    id(),
    text("target_key"),
    text("severity"),
    text("data"),  # JSON
    instant("opened_at"),
    instant("acknowledged_at", nullable=True),
    instant("resolved_at", nullable=True),
    Column("target", Text, nullable=False, server_default=sql("''")),
    Column("updated_at", BigInteger, nullable=False, server_default=sql("0")),
    instant("next_at", nullable=True),  # when something is to be said again
    text("acknowledged_by", nullable=True),
    Index("incident_target", "target_key"),
    Index("incident_open", "target_key", unique=True, sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED),
    Index("incident_due", "next_at", sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED),
)

incident_run = Table(
    "incident_run",
    metadata,
    Column("incident", BigInteger, primary_key=True, autoincrement=False),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    instant("attached_at"),
    Index("incident_run_run", "run"),
)

outbox = Table(
    "outbox",
    metadata,
    id(),
    instant("at"),
    instant("next_at"),
    Column("attempts", Integer, nullable=False),
    text("message"),  # JSON model.Message
    text("error"),
    instant("sent_at", nullable=True),
    Column("incident", BigInteger, nullable=True),
    text("notifier", nullable=True),  # the one it is for, where it is for one
    Column("posted", BigInteger, nullable=True),  # its place among what is said; NULL: its id
    # How often its notifier refused it while it took others.
    Column("refused", Integer, nullable=False, server_default=sql("0")),
    Index(
        "outbox_due",
        "next_at",
        sqlite_where=sql("sent_at IS NULL"),
        postgresql_where=sql("sent_at IS NULL"),
    ),
    Index(
        "outbox_incident",
        "incident",
        sqlite_where=sql("sent_at IS NULL"),
        postgresql_where=sql("sent_at IS NULL"),
    ),
)

notifier = Table(  # those that have failed once
    "notifier",
    metadata,
    Column("name", Text, primary_key=True),
    instant("failing_since", nullable=True),
    instant("retry_at", nullable=True),  # not to be tried before
    instant("told_at", nullable=True),  # when people were told that it fails
    text("error"),
)
