"""The durable truth: every accepted alert, run, intent, effect, lock and audit event.

All SQL of the project is here. Each state change is one transaction together with its audit
events. The store decides nothing that a policy decides: it re-checks what ADMIT must re-check,
keeps what must be unique unique, and otherwise writes what it is told. It calls nobody and reads
no clock but the one it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from remediator.clock import SystemClock
from remediator.errors import ConfigurationError
from remediator.store.limits import Limits

if TYPE_CHECKING:
    from remediator.contracts import Clock, Receiver, Store

VERSION = "0002"
"""The schema's version: the newest file in `migrations/versions`."""
OLDEST_CODE = "0001"
"""The oldest version whose code may still work on it: the greatest `oldest_code` of the migrations."""

DEFAULTS = Limits()


def open_store(
    url: str,
    clock: Clock,
    *,
    receivers: Mapping[str, Receiver],
    read_only: bool = False,
    seal_key: bytes | None = None,
    limits: Limits = DEFAULTS,
) -> Store:
    """A store, not yet opened: `await store.open()` does that.

    Args:
        url: `sqlite:///absolute/path`, `sqlite:///./relative`, or `sqlite://` for one in memory
            that lives as long as the store, runs in the caller's thread and needs no file;
            `postgresql://user:password@host:port/database` for several replicas.
        clock: what "now" is. On PostgreSQL the system's clock is not asked, but the database's own:
            replicas must agree. A driven one (tests, simulation) is obeyed.
        receivers: kind → receiver, to read a stored body again.
        read_only: beside a running daemon; every method that writes is refused.
        seal_key: chains the audit log by HMAC-SHA256 instead of SHA-256.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    if url.startswith(("postgresql://", "postgres://")):
        from remediator.store.postgres.opening import check_driver
        from remediator.store.postgres.store import PostgresStore

        check_driver()
        own = None if isinstance(clock, SystemClock) else clock
        return PostgresStore(str(url), own, receivers, read_only=read_only, seal_key=seal_key, limits=limits)
    from remediator.store.sqlite.store import SqliteStore

    path = path_of(url)
    if path is None and read_only:
        raise ConfigurationError("store.url: a store in memory cannot be opened read-only: it would be empty")
    return SqliteStore(path, clock, receivers, read_only=read_only, seal_key=seal_key, limits=limits)


def path_of(url: str) -> Path | None:
    """The file of an SQLite address; None for one in memory.

    Raises:
        ConfigurationError: it is no address of a store.
    """
    scheme, separator, rest = url.partition("://")
    if scheme != "sqlite" or not separator:
        raise ConfigurationError(
            f"store.url: {scheme or url!r} is no store; use sqlite:///path/to/remediator.db or postgresql://…"
        )
    if rest in ("", "/", "/:memory:"):
        return None
    if not rest.startswith("/"):
        raise ConfigurationError(f"store.url: sqlite://{rest} names a host; a file is sqlite:///{rest}")
    rest = rest[1:]
    return Path(rest) if rest.startswith(("./", "../")) else Path("/" + rest.lstrip("/"))
