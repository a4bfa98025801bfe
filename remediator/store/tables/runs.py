"""Runs, their intents, and what they hold: locks and leases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint
from sqlalchemy import text as sql

from remediator.store.tables.columns import flag, id, instant, metadata, text

_OPEN = sql("outcome IS NULL")
_BEGUN = sql("outcome IS NULL AND state NOT IN ('HOLD', 'GUARD', 'APPROVAL')")
_JUDGED = sql("outcome IN ('succeeded', 'reverted', 'escalated')")

run = Table(
    "run",
    metadata,
    id(),
    text("policy"),
    text("policy_revision"),
    Column("alert", BigInteger, nullable=False),
    text("target", nullable=True),
    text("target_key", nullable=True),
    text("mode"),
    text("origin"),
    text("state"),
    text("outcome", nullable=True),
    text("reason", nullable=True),
    text("observed"),
    text("allowed"),
    instant("created_at"),
    instant("updated_at"),
    instant("next_at", nullable=True),
    Column("epoch", BigInteger, nullable=False),
    text("progress"),  # JSON model.Progress
    text("worker", nullable=True),
    instant("lease_until", nullable=True),
    flag("woken"),  # a wake came while it was claimed
    Index(
        "run_once",
        "policy",
        "alert",
        unique=True,
        sqlite_where=sql("origin <> 'lease'"),
        postgresql_where=sql("origin <> 'lease'"),
    ),
    Index(
        "run_target",
        "policy",
        "target",
        unique=True,
        sqlite_where=sql("outcome IS NULL AND origin <> 'lease'"),
        postgresql_where=sql("outcome IS NULL AND origin <> 'lease'"),
    ),
    Index("run_due", "next_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("run_begun", "next_at", sqlite_where=_BEGUN, postgresql_where=_BEGUN),
    Index(
        "run_observed",
        "policy",
        "updated_at",
        sqlite_where=sql("outcome = 'observed'"),
        postgresql_where=sql("outcome = 'observed'"),
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
    instant("attached_at"),
    Index("run_alert_alert", "alert"),
)

intent = Table(
    "intent",
    metadata,
    id(),
    Column("run", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    text("kind"),
    text("policy"),
    text("target_key"),
    text("plan"),  # JSON model.Plan
    text("token"),
    text("nonce"),
    Column("rung", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    instant("created_at"),
    flag("counted"),
    text("outcome"),
    instant("outcome_at", nullable=True),
    text("evidence"),  # JSON
    Column("target", Text, nullable=False, server_default=sql("''")),  # as the plan names it
    UniqueConstraint("run", "number", name="intent_once"),
    Index("intent_global", "created_at"),
    Index("intent_policy", "policy", "created_at"),
    Index("intent_target", "target_key", "created_at"),
)

effect = Table(
    "effect",
    metadata,
    id(),
    Column("run", BigInteger, nullable=False),
    text("policy"),
    text("target"),
    text("target_key"),
    text("field"),
    text("prior"),  # JSON
    text("current"),  # JSON
    text("plan"),  # JSON model.Plan
    instant("expires_at"),
    flag("extended"),
    instant("returned_at", nullable=True),
    text("outcome"),
    Column("return_run", BigInteger, nullable=True),  # the run of origin lease that ends it
    instant("lent_at", nullable=True),
    instant("renewed_at", nullable=True),
    Column("renewed_by", Text, nullable=False, server_default=sql("''")),
    Column("renewals", Integer, nullable=False, server_default=sql("0")),
    Column("recalled_by", Text, nullable=False, server_default=sql("''")),  # who wanted it back early
    Index(
        "effect_open",
        "target_key",
        "field",
        unique=True,
        sqlite_where=sql("returned_at IS NULL"),
        postgresql_where=sql("returned_at IS NULL"),
    ),
    Index(
        "effect_due",
        "expires_at",
        sqlite_where=sql("returned_at IS NULL AND return_run IS NULL"),
        postgresql_where=sql("returned_at IS NULL AND return_run IS NULL"),
    ),
)

target_lock = Table(
    "target_lock",
    metadata,
    Column("target_key", Text, primary_key=True),
    text("target"),
    Column("run", BigInteger, nullable=False),
    text("policy"),
    instant("taken_at"),
    Index("target_lock_run", "run"),
)
