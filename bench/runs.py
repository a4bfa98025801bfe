"""Runs through the whole graph: webhook, HOLD, GUARD, ADMIT, ACTING, SETTLING, VERIFY, succeeded."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

from bench.policies import WIDE, policies
from bench.server import Cluster, Daemon
from bench.table import Row

RUNS = 3_000
"""Runs of one measurement, ten alerts in a body; they come faster than they can be done."""
WANTED = {"SQLite": 700, "PostgreSQL": 225}
"""Runs a second: half of what a plain purpose-built state machine with full fsync reaches on two cores."""
VERIFY = {
    "verify": {
        "within": "60s",
        "every": "1s",
        "checks": [{"check": "alert.firing", "with": {}, "is": "== 1"}],
    }
}
_ENDED = re.compile(r'^remediator_runs_total\{outcome="(\w+)".*\} ([0-9.e+]+)$', re.MULTILINE)


def ended(daemon: Daemon) -> dict[str, float]:
    """Outcome → how many runs came to it, by the daemon's own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for outcome, count in _ENDED.findall(text):
        found[outcome] = found.get(outcome, 0) + float(count)
    return {outcome: count for outcome, count in found.items() if count}


def acted(daemon: Daemon) -> int:
    """How many actions were done."""
    return daemon.actions.read_bytes().count(b"\n") if daemon.actions.exists() else 0


def measure(url: str | None, cluster: Cluster | None = None, runs: int = RUNS) -> tuple[float, float, float]:
    """Runs a second, and CPU milliseconds of the daemon and of the database server for each.

    Raises:
        AssertionError: a run ended otherwise, or an action was lost or done twice.
    """
    with Daemon({}, limits=WIDE, store=url or "", workers=64) as daemon:
        for name, policy in policies(1, str(daemon.actions), **VERIFY).items():
            daemon.write(name, policy)
        daemon.process.stop()
        daemon.process.start()
        _through(daemon, 200, 0)
        cpu, server_cpu = daemon.cpu(), cluster.cpu() if cluster is not None else 0.0
        took = _through(daemon, runs, 200)
        own = (daemon.cpu() - cpu) * 1e3 / runs
        others = (cluster.cpu() - server_cpu) * 1e3 / runs if cluster is not None else 0.0
        lines = daemon.actions.read_text().split()[::3]
    if len(lines) != runs + 200 or len(set(lines)) != runs + 200:
        raise AssertionError(f"{runs + 200} actions were wanted; {len(lines)} were done")
    return runs / took, own, others


def _through(daemon: Daemon, count: int, before: int) -> float:
    begun = time.perf_counter()
    daemon.load(alerts=10, total=count, match_every=1, connections=4)
    end = begun + 120
    while sum((found := ended(daemon)).values()) < before + count:
        if time.perf_counter() > end:
            raise AssertionError(f"{count} runs did not end within two minutes: {found}")
        # A look at the metrics costs as much as some runs: first at what the action has written.
        time.sleep(0.05 if acted(daemon) >= before + count else 0.2)
        while acted(daemon) < before + count and time.perf_counter() < end:
            time.sleep(0.05)
    if found != {"succeeded": before + count}:
        raise AssertionError(f"not every run succeeded: {found}")
    return time.perf_counter() - begun


def runs() -> Iterator[Row]:
    """On both stores."""
    for store, wanted in WANTED.items():
        with ExitStack() as stack:
            cluster = stack.enter_context(Cluster()) if store == "PostgreSQL" else None
            rate, own, server = measure(cluster.new() if cluster is not None else None, cluster)
        yield Row(
            f"runs through the whole graph, {store}", "", f"{rate:.0f} runs/s", None, f"≥ {wanted} runs/s",
            rate >= wanted,
        )  # fmt: skip
        more = f" and {server:.1f} ms of the server" if cluster is not None else ""
        yield Row(f"CPU per run, {store}", "", f"{own:.1f} ms{more}", None, "", True)
