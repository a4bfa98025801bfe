"""The trouble: a database whose pool is full of sessions that are stuck."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from tests.servers.postgres import Postgres

DATABASE = "orders"
MAX_CONNECTIONS = 100
SLOTS = 97
"""What ordinary roles can have: PostgreSQL keeps the last three for superusers."""
HEALTHY = 62
RUNNING = 12
IDLE = 8


class StuckSessions:
    """Twenty clients of an application that hold their connections and do not let go, among healthy ones.

    Twelve run a query that does not end, and run it again when it is cancelled, as applications do. Eight
    have begun a transaction and forgotten it. The healthy ones must come to no harm.
    """

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.dsn = server.dsn("checkout", DATABASE) + "?application_name=checkout"
        self._stuck: list[psycopg.Connection[tuple[object, ...]]] = []
        self._healthy: list[psycopg.Connection[tuple[object, ...]]] = []
        self._watch: psycopg.Connection[tuple[object, ...]] | None = None

    def __enter__(self) -> Self:
        with psycopg.connect(self.server.superuser_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            admin.execute("CREATE ROLE checkout LOGIN")
            admin.execute("CREATE ROLE remediator LOGIN")
            # What `remediator doctor` and the action's documentation ask for, and no more.
            admin.execute("GRANT pg_read_all_stats, pg_signal_backend TO remediator")
        self._watch = psycopg.connect(self.server.dsn(dbname=DATABASE), autocommit=True)
        for _ in range(HEALTHY):
            self._healthy.append(psycopg.connect(self.dsn, autocommit=True))
        for number in range(RUNNING + IDLE):
            client = psycopg.connect(self.dsn, autocommit=number < RUNNING)
            self._stuck.append(client)
            if number < RUNNING:
                threading.Thread(target=self._run_for_ever, args=(client,), daemon=True).start()
            else:
                client.execute("SELECT count(*) FROM pg_class")
        self._since = time.monotonic()
        return self

    def await_age(self, seconds: float) -> None:
        """Return when they have been stuck for so long."""
        time.sleep(max(0.0, self._since + seconds - time.monotonic()))

    def _run_for_ever(self, client: psycopg.Connection[tuple[object, ...]]) -> None:
        while not client.closed:
            try:
                client.execute("SELECT pg_sleep(3600)")
            except psycopg.errors.QueryCanceled:
                continue
            except psycopg.Error:
                client.close()

    def used(self) -> int:
        """How many of the server's slots are taken by clients."""
        assert self._watch is not None
        row = self._watch.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ).fetchone()
        assert row is not None
        return int(str(row[0]))

    def harmed(self) -> int:
        """How many of the healthy clients lost their session."""
        lost = 0
        for client in self._healthy:
            try:
                client.execute("SELECT 1")
            except psycopg.Error:
                lost += 1
        return lost

    def share(self) -> float:
        """The pool's use in percent."""
        return 100 * self.used() / SLOTS

    def __str__(self) -> str:
        used = self.used()
        return f"{used} of {SLOTS} connections = {100 * used / SLOTS:.0f} %"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            with contextlib.suppress(psycopg.Error):
                self._watch.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'checkout'"
                )
            self._watch.close()
        for client in (*self._healthy, *self._stuck[RUNNING:]):
            client.close()
