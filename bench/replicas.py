"""Intake on PostgreSQL, with one replica and with three, beside a floor that only writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg

from bench.intake import HOLD
from bench.policies import WIDE, policies
from bench.server import Cluster, Daemon, Floor, Server
from bench.table import Row, rate

TOTAL = 30_000
"""Alerts in one round, ten in a body, spread over the replicas."""


def together(servers: list[Server], total: int) -> tuple[float, float]:
    """Drive all at once; returns alerts a second in all, and the worst p99 of a body in milliseconds."""
    share = total // len(servers)
    connections = max(4, 16 // len(servers))
    with ThreadPoolExecutor(len(servers)) as threads:
        reports = list(
            threads.map(lambda one: one.load(alerts=10, total=share, connections=connections), servers)
        )
    return sum(one["alerts_s"] for one in reports), max(one["p99_ms"] for one in reports)


def replicas() -> Iterator[Row]:
    """New alerts, one in a hundred of which opens a run that waits."""
    with Cluster() as cluster:
        url = cluster.new()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE ev (id bigserial, fp text, name text, body bytea)")
        with Floor("pg_group", url) as floor:
            floor.load(alerts=10, total=TOTAL // 10)
            least, slowest = together([floor], TOTAL)
        for count in (1, 3):
            url = cluster.new()
            with contextlib.ExitStack() as stack:
                daemons: list[Server] = []
                for _ in range(count):
                    daemons.append(stack.enter_context(Daemon(policies(10, **HOLD), limits=WIDE, store=url)))
                together(daemons, TOTAL // 10)
                found, p99 = together(daemons, TOTAL)
            name = "1 replica" if count == 1 else f"{count} replicas"
            yield Row(
                f"new alerts on PostgreSQL, {name}", rate(least), rate(found), found / least, "", True
            )  # fmt: skip
            yield Row(
                f"p99 of a body of 10, {name}", f"{slowest:.0f} ms", f"{p99:.0f} ms", p99 / slowest, "", True
            )
