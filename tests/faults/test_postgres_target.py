"""The line to a database is cut in the middle of ending its sessions: a real daemon, a real server. Not known
is not done: the daemon looks, and ends nobody's session twice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.installation import Installation, firing
from tests.faults.scene import ESCALATION, LIMITS
from tests.servers.postgres import Postgres
from tests.servers.wire import Wire

POLICY = """
name: stuck
mode: enforce
from: [am]
match: [alertname="Stuck"]
remedies:
  - action: quick.terminate
    with: {connection: orders, longer_than: 1s, max: 5, states: [idle in transaction]}
escalate: on-call
limits: {cooldown: 0s, per_target: [9 per 1h], budget: [99 per 1h], concurrent: 9, blast_radius: 100%}
"""
SETUP = """
CREATE ROLE remediator LOGIN;
GRANT pg_read_all_stats, pg_signal_backend TO remediator;
CREATE ROLE app LOGIN;
"""
CALL = b"pg_terminate_backend"


class Snapping(Wire):
    """Is cut by the next statement that ends sessions: before it has passed, or after."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.snap = ""
        self.seen = 0
        """Statements that have reached the server."""
        self.snapped = threading.Event()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                asked = CALL in data
                if asked and self.snap == "before":
                    self._break()
                    break
                if not asked and self.snap == "broken":
                    break  # the answer to what has passed
                after = asked and self.snap == "after"
                if after:
                    self.snap = "broken"
                self.seen += asked
                sink.sendall(data)
                if after:
                    time.sleep(0.3)  # so that the server has carried it out
                    self._break()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()

    def _break(self) -> None:
        self.snap = ""
        self.cut()
        self.snapped.set()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(settings={"fsync": "off"}) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute(SETUP)
        yield server


@pytest.mark.parametrize(("snap", "calls"), [("after", 1), ("before", 1)])
def test_the_line_is_cut_while_sessions_are_ended(
    tmp_path: Path, server: Postgres, snap: str, calls: int
) -> None:
    def dsn(role: str, port: int) -> str:
        return f"postgresql://{role}@127.0.0.1:{port}/postgres"

    with Snapping(server.port) as wire:
        daemon = Installation(
            tmp_path,
            {"stuck.yaml": POLICY, "limits.yaml": LIMITS, "escalation.yaml": ESCALATION},
            connections={"orders": {"kind": "postgres", "dsn": dsn("remediator", wire.port), "timeout": 2.0}},
            plugins=["tests.faults.plugin"],
            engine={"action_timeout": "3s"},
        )
        with daemon, psycopg.connect(dsn("app", server.port)) as stuck:
            stuck.execute("SELECT 1")  # and its transaction idles from here on
            daemon.start()
            time.sleep(1.1)  # longer than `longer_than`: the server's own clock
            wire.snap = snap
            assert daemon.post(firing("Stuck")) == 200

            def kinds() -> list[str]:
                return [one["kind"] for one in daemon.get("audit", oldest_first=True, limit=500)["items"]]

            daemon.until(wire.snapped.is_set, "the line is cut")
            daemon.until(lambda: "action.unknown" in kinds(), "its outcome is not known")
            assert "action.failed" not in kinds()
            wire.mend()

            def run() -> dict[str, Any]:
                found: dict[str, Any] = daemon.runs()[0]
                return found

            daemon.until(lambda: run()["outcome"] is not None, "it ends", 40)
            assert run()["outcome"] == "succeeded", run()
            assert wire.seen == calls  # as often as the server was asked
            assert kinds().count("action.reconciled") == 1
            with pytest.raises(psycopg.OperationalError):
                stuck.execute("SELECT 1")
