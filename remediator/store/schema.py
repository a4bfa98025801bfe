"""The tables, once for every engine. Text columns hold JSON where the comment says so.

Importing this costs half a second (SQLAlchemy), so a running daemon does not: `schema.sql` is
what this module compiles to for SQLite, and a test keeps the two equal. After a change here:
write a migration, set `remediator.store.VERSION`, and run `python -m remediator.store.schema`.

There are no foreign keys: retention deletes each table by its own age, and intake must not pay
for a look-up that the same transaction has just made true.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from remediator.store import OLDEST_CODE, VERSION

metadata = MetaData()

# SQLite gives a rowid only to a column that is declared exactly INTEGER.
_ID = BigInteger().with_variant(Integer(), "sqlite")
_SQL = Path(__file__).with_name("schema.sql")


def _id() -> Column[int]:
    return Column("id", _ID, primary_key=True, autoincrement=False)


def _instant(name: str, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _text(name: str, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _json(name: str) -> Column[str]:
    """JSON that the former version does not write."""
    return Column(name, Text, nullable=False, server_default=text("'{}'"))


def _flag(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, server_default=text("0"))


# ---------------------------------------------------------------- alerts

_ENDED = text("resolved_at IS NOT NULL")
_UNENDED = text("ended_at IS NULL")

alert = Table(
    "alert",
    metadata,
    _id(),
    _text("sender"),
    _text("fingerprint"),
    _instant("starts_at"),
    _instant("sent_starts_at", nullable=True),  # what the sender said, where it is not starts_at
    _text("status"),
    Column("digest", BigInteger, nullable=False),
    _instant("received_at"),
    _instant("resolved_at", nullable=True),
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
    _id(),  # a delivery's n changes own the ids from id to id+n-1; shared with audit_event
    _instant("at"),
    _text("sender"),
    _text("kind"),  # of the receiver that can read the body
    _text("revision"),
    Column("truncated", Integer, nullable=False),
    _flag("test"),
    _text("changes"),  # JSON [[alert, position in the body, change, the alert's former event], …]
    Column("body", LargeBinary, nullable=False),  # last, so that a scan need not read it
    Index("alert_event_at", "at"),
)

started = Table(  # what people started by hand
    "started",
    metadata,
    Column("alert", BigInteger, primary_key=True, autoincrement=False),
    _text("key", nullable=True),  # under which it may be asked for again
    _instant("at"),
    _instant("ended_at", nullable=True),
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

# ---------------------------------------------------------------- runs

_OPEN = text("outcome IS NULL")
_BEGUN = text("outcome IS NULL AND state NOT IN ('HOLD', 'GUARD', 'APPROVAL')")
_JUDGED = text("outcome IN ('succeeded', 'reverted', 'escalated')")

run = Table(
    "run",
    metadata,
    _id(),
    _text("policy"),
    _text("policy_revision"),
    Column("alert", BigInteger, nullable=False),
    _text("target", nullable=True),
    _text("target_key", nullable=True),
    _text("mode"),
    _text("origin"),
    _text("state"),
    _text("outcome", nullable=True),
    _text("reason", nullable=True),
    _text("observed"),
    _text("allowed"),
    _instant("created_at"),
    _instant("updated_at"),
    _instant("next_at", nullable=True),
    Column("epoch", BigInteger, nullable=False),
    _text("progress"),  # JSON model.Progress
    _text("worker", nullable=True),
    _instant("lease_until", nullable=True),
    _flag("woken"),  # a wake came while it was claimed
    Index(
        "run_once",
        "policy",
        "alert",
        unique=True,
        sqlite_where=text("origin <> 'lease'"),
        postgresql_where=text("origin <> 'lease'"),
    ),
    Index(
        "run_target",
        "policy",
        "target",
        unique=True,
        sqlite_where=text("outcome IS NULL AND origin <> 'lease'"),
        postgresql_where=text("outcome IS NULL AND origin <> 'lease'"),
    ),
    Index("run_due", "next_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("run_begun", "next_at", sqlite_where=_BEGUN, postgresql_where=_BEGUN),
    Index(
        "run_observed",
        "policy",
        "updated_at",
        sqlite_where=text("outcome = 'observed'"),
        postgresql_where=text("outcome = 'observed'"),
    ),
    Index(
        "run_judged",
        "policy",
        "updated_at",
        sqlite_where=_JUDGED,
        postgresql_where=_JUDGED,
    ),
    Index("run_policy", "policy", "id"),
    Index("run_ended", "updated_at"),
)

run_alert = Table(
    "run_alert",
    metadata,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("alert", BigInteger, primary_key=True, autoincrement=False),
    _instant("attached_at"),
    Index("run_alert_alert", "alert"),
)

intent = Table(
    "intent",
    metadata,
    _id(),
    Column("run", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    _text("kind"),
    _text("policy"),
    _text("target_key"),
    _text("plan"),  # JSON model.Plan
    _text("token"),
    _text("nonce"),
    Column("rung", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    _instant("created_at"),
    _flag("counted"),
    _text("outcome"),
    _instant("outcome_at", nullable=True),
    _text("evidence"),  # JSON
    Column("target", Text, nullable=False, server_default=text("''")),  # as the plan names it
    UniqueConstraint("run", "number", name="intent_once"),
    Index("intent_global", "created_at"),
    Index("intent_policy", "policy", "created_at"),
    Index("intent_target", "target_key", "created_at"),
)

effect = Table(
    "effect",
    metadata,
    _id(),
    Column("run", BigInteger, nullable=False),
    _text("policy"),
    _text("target"),
    _text("target_key"),
    _text("field"),
    _text("prior"),  # JSON
    _text("current"),  # JSON
    _text("plan"),  # JSON model.Plan
    _instant("expires_at"),
    _flag("extended"),
    _instant("returned_at", nullable=True),
    _text("outcome"),
    Column("return_run", BigInteger, nullable=True),  # the run of origin lease that ends it
    _instant("lent_at", nullable=True),
    _instant("renewed_at", nullable=True),
    Column("renewed_by", Text, nullable=False, server_default=text("''")),
    Column("renewals", Integer, nullable=False, server_default=text("0")),
    Column("recalled_by", Text, nullable=False, server_default=text("''")),  # who wanted it back early
    Index(
        "effect_open",
        "target_key",
        "field",
        unique=True,
        sqlite_where=text("returned_at IS NULL"),
        postgresql_where=text("returned_at IS NULL"),
    ),
    Index(
        "effect_due",
        "expires_at",
        sqlite_where=text("returned_at IS NULL AND return_run IS NULL"),
        postgresql_where=text("returned_at IS NULL AND return_run IS NULL"),
    ),
)

target_lock = Table(
    "target_lock",
    metadata,
    Column("target_key", Text, primary_key=True),
    _text("target"),
    Column("run", BigInteger, nullable=False),
    _text("policy"),
    _instant("taken_at"),
    Index("target_lock_run", "run"),
)

_UNDECIDED = text("decision IS NULL")

approval = Table(
    "approval",
    metadata,
    _id(),
    Column("run", BigInteger, nullable=False),
    _text("plan"),  # JSON model.Plan
    _text("role"),
    _instant("asked_at"),
    _instant("expires_at"),
    _text("decision", nullable=True),
    _text("actor", nullable=True),
    _text("comment", nullable=True),
    _instant("decided_at", nullable=True),
    _json("data"),
    Index("approval_run", "run"),
    # A run asks one question at a time.
    Index("approval_open", "run", unique=True, sqlite_where=_UNDECIDED, postgresql_where=_UNDECIDED),
)

_UNRESOLVED = text("resolved_at IS NULL")

incident = Table(
    "incident",
    metadata,
    _id(),
    _text("target_key"),
    _text("severity"),
    _text("data"),  # JSON
    _instant("opened_at"),
    _instant("acknowledged_at", nullable=True),
    _instant("resolved_at", nullable=True),
    Column("target", Text, nullable=False, server_default=text("''")),
    Column("updated_at", BigInteger, nullable=False, server_default=text("0")),
    _instant("next_at", nullable=True),  # when something is to be said again
    _text("acknowledged_by", nullable=True),
    Index("incident_target", "target_key"),
    Index("incident_open", "target_key", unique=True, sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED),
    Index("incident_due", "next_at", sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED),
)

incident_run = Table(
    "incident_run",
    metadata,
    Column("incident", BigInteger, primary_key=True, autoincrement=False),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    _instant("attached_at"),
    Index("incident_run_run", "run"),
)

outbox = Table(
    "outbox",
    metadata,
    _id(),
    _instant("at"),
    _instant("next_at"),
    Column("attempts", Integer, nullable=False),
    _text("message"),  # JSON model.Message
    _text("error"),
    _instant("sent_at", nullable=True),
    Column("incident", BigInteger, nullable=True),
    _text("notifier", nullable=True),  # the one it is for, where it is for one
    Column("posted", BigInteger, nullable=True),  # its place among what is said; NULL: its id
    # How often its notifier refused it while it took others.
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Index(
        "outbox_due",
        "next_at",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
    Index(
        "outbox_incident",
        "incident",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
)

notifier = Table(  # those that have failed once
    "notifier",
    metadata,
    Column("name", Text, primary_key=True),
    _instant("failing_since", nullable=True),
    _instant("retry_at", nullable=True),  # not to be tried before
    _instant("told_at", nullable=True),  # when people were told that it fails
    _text("error"),
)

# ---------------------------------------------------------------- audit

audit_event = Table(
    "audit_event",
    metadata,
    _id(),  # shared with alert_event
    _instant("at"),
    _text("kind"),
    Column("alert", BigInteger, nullable=True),
    Column("run", BigInteger, nullable=True),
    _text("policy", nullable=True),
    _text("target", nullable=True),
    Column("body", LargeBinary, nullable=False),  # JSON model.AuditRecord: the bytes that are sealed
    Index("audit_event_at", "at"),
    Index("audit_event_alert", "alert", sqlite_where=text("alert IS NOT NULL")),
    Index("audit_event_run", "run", sqlite_where=text("run IS NOT NULL")),
)

audit_seal = Table(
    "audit_seal",
    metadata,
    _id(),
    Column("first", BigInteger, nullable=False),  # number of its first record in the chain
    Column("count", Integer, nullable=False),
    _instant("at"),
    _text("algorithm"),
    Column("upto", BigInteger, nullable=False),  # every record with an id up to this one is sealed
    Column("items", LargeBinary, nullable=False),  # JSON [[source, id, SHA-256], …]: the bytes chained
    Column("previous", Text, nullable=False, unique=True),  # two sealers cannot fork the chain
    _text("hash"),
)

# ---------------------------------------------------------------- the rest

policy_revision = Table(
    "policy_revision",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("files"),  # JSON {name: text}
    _text("git"),
    _instant("loaded_at"),
)

control = Table(
    "control",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    _text("reason"),
    _text("actor"),
    _instant("since"),
    _instant("until", nullable=True),
    _text("data"),  # JSON
)

rejected = Table(
    "rejected",
    metadata,
    _id(),
    _instant("at"),
    _text("sender"),
    Column("status", Integer, nullable=False),
    _text("field"),
    _text("message"),
    Column("body", LargeBinary, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),  # `active`: the policy set; `next:…`: ids already handed out
    _text("value"),
)


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
