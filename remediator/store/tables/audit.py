"""The audit log and its seals."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text
from sqlalchemy import text as sql

from remediator.store.tables.columns import id, instant, metadata, text

audit_event = Table(
    "audit_event",
    metadata,
    id(),  # shared with alert_event
    instant("at"),
    text("kind"),
    Column("alert", BigInteger, nullable=True),
    Column("run", BigInteger, nullable=True),
    text("policy", nullable=True),
    text("target", nullable=True),
    Column("body", LargeBinary, nullable=False),  # JSON model.AuditRecord: the bytes that are sealed
    Index("audit_event_at", "at"),
    Index("audit_event_alert", "alert", sqlite_where=sql("alert IS NOT NULL")),
    Index("audit_event_run", "run", sqlite_where=sql("run IS NOT NULL")),
)

audit_seal = Table(
    "audit_seal",
    metadata,
    id(),
    Column("first", BigInteger, nullable=False),  # number of its first record in the chain
    Column("count", Integer, nullable=False),
    instant("at"),
    text("algorithm"),
    Column("upto", BigInteger, nullable=False),  # every record with an id up to this one is sealed
    Column("items", LargeBinary, nullable=False),  # JSON [[source, id, SHA-256], …]: the bytes chained
    Column("previous", Text, nullable=False, unique=True),  # two sealers cannot fork the chain
    text("hash"),
)
