"""Alerts: what they are now, every delivery that changed something, and what could not be taken."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text
from sqlalchemy import text as sql

from remediator.store.tables.columns import flag, id, instant, metadata, text

_ENDED = sql("resolved_at IS NOT NULL")
_UNENDED = sql("ended_at IS NULL")

alert = Table(
    "alert",
    metadata,
    id(),
    text("sender"),
    text("fingerprint"),
    instant("starts_at"),
    instant("sent_starts_at", nullable=True),  # what the sender said, where it is not starts_at
    text("status"),
    Column("digest", BigInteger, nullable=False),
    instant("received_at"),
    instant("resolved_at", nullable=True),
    Column("event", BigInteger, nullable=False),  # the alert_event that opened it
    Column("last_event", BigInteger, nullable=False),  # the latest that changed it
    # starts_at first: new rows then go to the end of the index, and a commit dirties few pages.
    Index("alert_identity", "starts_at", "fingerprint", "sender", unique=True),
    # Partial: a new alert fires, and pays for no entry here.
    Index("alert_ended", "resolved_at", sqlite_where=_ENDED, postgresql_where=_ENDED),
)

alert_event = Table(
    "alert_event",
    metadata,
    id(),  # a delivery's n changes own the ids from id to id+n-1; shared with audit_event
    instant("at"),
    text("sender"),
    text("kind"),  # of the receiver that can read the body
    text("revision"),
    Column("truncated", Integer, nullable=False),
    flag("test"),
    text("changes"),  # JSON [[alert, position in the body, change, the alert's former event], …]
    Column("body", LargeBinary, nullable=False),  # last, so that a scan need not read it
    Index("alert_event_at", "at"),
)

started = Table(  # what people started by hand
    "started",
    metadata,
    Column("alert", BigInteger, primary_key=True, autoincrement=False),
    text("key", nullable=True),  # under which it may be asked for again
    instant("at"),
    instant("ended_at", nullable=True),
    Index("started_key", "key", unique=True),
    Index("started_open", "alert", sqlite_where=_UNENDED, postgresql_where=_UNENDED),
)

episode_count = Table(  # new episodes, for the storm breaker
    "episode_count",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),  # the second in which they came
    Column("count", Integer, nullable=False),
)

rejected = Table(
    "rejected",
    metadata,
    id(),
    instant("at"),
    text("sender"),
    Column("status", Integer, nullable=False),
    text("field"),
    text("message"),
    Column("body", LargeBinary, nullable=False),
)
