"""Start, memory, and coming back after a crash."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.policies import WIDE, policies
from bench.server import Daemon, median
from bench.table import Row

LOCAL = {
    "orders": {"kind": "postgres", "dsn": "postgresql://remediator@127.0.0.1:9/orders"},
    "prometheus": {"kind": "prometheus", "url": "http://127.0.0.1:9"},
    "cluster": {"kind": "kubernetes", "context": "bench"},
}
"""Connections of the founding rules that need no cloud account. Nothing answers there."""
STARTS = 5


def idle() -> Iterator[Row]:
    """Ready time and memory at rest."""
    ready, resident = [], []
    for _ in range(STARTS):
        daemon = Daemon(policies(10), limits=WIDE, connections=LOCAL)
        try:
            ready.append(daemon.start_timed())
            time.sleep(1)
            resident.append(daemon.resident())
        finally:
            daemon.close()
    yield Row("ready after start", "", f"{median(ready):.2f} s", None, "< 1.5 s", median(ready) < 1.5)
    yield Row(
        "resident when idle", "", f"{median(resident):.0f} MB", None, "< 110 MB", median(resident) < 110
    )


def full() -> Iterator[Row]:
    """Memory after 100,000 distinct alerts, and the way back after kill -9 with 10,000 open runs."""
    with Daemon(policies(10, **{"for": "1h"}), limits=WIDE, connections=LOCAL) as daemon:
        report = daemon.load(alerts=10, total=100_000, match_every=10)
        time.sleep(1)
        resident = daemon.resident()
        opened = report["accepted_matching"]
        daemon.process.kill()
        ready = daemon.start_timed()
        time.sleep(1)
        after = daemon.resident()
    yield Row(
        "resident after 100,000 distinct alerts", "", f"{resident:.0f} MB", None, "< 180 MB", resident < 180
    )
    yield Row(
        f"ready after kill -9 with 100,000 alerts, {opened:,} open runs", "", f"{ready:.2f} s", None, "< 3 s",
        ready < 3,
    )  # fmt: skip
    yield Row("resident after that start", "", f"{after:.0f} MB", None, "< 180 MB", after < 180)


def help_text() -> Iterator[Row]:
    """`remediator --help`."""
    took = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "remediator", "--help"], capture_output=True, check=True)
        took.append(time.perf_counter() - begun)
    yield Row("remediator --help", "", f"{median(took):.2f} s", None, "< 0.3 s", median(took) < 0.3)
