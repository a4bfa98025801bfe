"""How long until a pause holds on every replica, and until who waited for it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2

from bench.policies import WIDE, policies
from bench.server import Daemon, median
from bench.table import Row
from tests.servers.postgres import Postgres
from tests.servers.process import Failed

REPLICAS = 3
ROUNDS = 30
MOST = 1.0
"""Seconds; what is promised."""


def pausing() -> Iterator[Row]:
    """Three daemons on one PostgreSQL. One is told to pause; then each is asked until it says so.

    That is the later of two moments: from the answer on no replica admits an action, for each looks in
    the transaction that would (`tests/store/test_postgres_brakes.py`).
    """
    with Postgres() as server, ExitStack() as stack:
        store = server.dsn()
        shown = policies(10, "/dev/null")
        daemons = [stack.enter_context(Daemon(shown, limits=WIDE, store=store)) for _ in range(REPLICAS)]
        clients = [
            stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{one.port}/api/v1/", timeout=10))
            for one in daemons
        ]
        on = [_until(clients, number, paused=True) for number in range(ROUNDS)]
        off = [_until(clients, number, paused=False) for number in range(ROUNDS)]
    for what, took in (("a pause to hold", on), ("a resume to hold", off)):
        yield Row(
            f"{what} on {REPLICAS} replicas, PostgreSQL: median, worst of {ROUNDS}",
            "",
            f"{median(took) * 1000:.0f} ms, {max(took) * 1000:.0f} ms",
            None,
            f"< {MOST:g} s",
            max(took) < MOST,
        )


def _until(clients: list[httpx2.Client], number: int, paused: bool) -> float:
    """Pause, or resume, by one replica; seconds until all show it."""
    scope = f"target:postgres:{number}"
    teller = clients[number % len(clients)]
    begun = time.perf_counter()
    path = "control/pause" if paused else "control/resume"
    teller.post(path, json={"scope": scope, "reason": "bench"}).raise_for_status()
    for client in clients:
        while (scope in _scopes(client)) is not paused:
            if time.perf_counter() - begun > 30:
                raise Failed(f"{client.base_url} never said that {scope} is {'' if paused else 'not '}paused")
    return time.perf_counter() - begun


def _scopes(client: httpx2.Client) -> list[str]:
    return [one["scope"] for one in client.get("control").raise_for_status().json()["items"]]
