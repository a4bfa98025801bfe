"""The kinds of columns, and what all tables belong to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, SmallInteger, Text
from sqlalchemy import text as sql

metadata = MetaData()

# SQLite gives a rowid only to a column that is declared exactly INTEGER.
_ID = BigInteger().with_variant(Integer(), "sqlite")


def id() -> Column[int]:
    """Given out by the store."""
    return Column("id", _ID, primary_key=True, autoincrement=False)


def instant(name: str, nullable: bool = False) -> Column[int]:
    """Milliseconds since 1970."""
    return Column(name, BigInteger, nullable=nullable)


def text(name: str, nullable: bool = False) -> Column[str]:
    """Of any length."""
    return Column(name, Text, nullable=nullable)


def json(name: str) -> Column[str]:
    """JSON that the former version does not write."""
    return Column(name, Text, nullable=False, server_default=sql("'{}'"))


def flag(name: str) -> Column[int]:
    """0 or 1; 0 from the former version."""
    return Column(name, SmallInteger, nullable=False, server_default=sql("0"))
