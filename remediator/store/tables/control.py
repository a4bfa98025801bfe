"""Brakes, policy sets, and what the store notes of itself."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from remediator.store.tables.columns import instant, metadata, text

policy_revision = Table(
    "policy_revision",
    metadata,
    Column("hash", Text, primary_key=True),
    text("files"),  # JSON {name: text}
    text("git"),
    instant("loaded_at"),
)

control = Table(
    "control",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    text("reason"),
    text("actor"),
    instant("since"),
    instant("until", nullable=True),
    text("data"),  # JSON
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),  # `active`: the policy set; `next:…`: ids already handed out
    text("value"),
)
