"""Intake: authenticated, matched against policies, deduplicated, committed with fsync before the answer."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.payload import now_text
from bench.policies import WIDE, policies
from bench.server import Daemon, Floor, median
from bench.table import Row, rate

TOTALS = {1: 20_000, 10: 100_000, 100: 200_000}
"""Alerts in one round, by alerts in a body."""
ROUNDS = 3
HOLD = {"for": "1h"}
"""One alert in a hundred matches and opens a run, which waits: acting is measured elsewhere."""


def new_alerts() -> Iterator[Row]:
    """New alerts beside the floor, in turns."""
    for alerts, total in TOTALS.items():
        floor, ours, cpu, p99 = [], [], [], []
        for _ in range(ROUNDS):
            with Floor("sq_group_idx") as server:
                server.load(alerts=alerts, total=total // 10)
                floor.append(server.load(alerts=alerts, total=total)["alerts_s"])
            with Daemon(policies(10, **HOLD), limits=WIDE) as daemon:
                daemon.load(alerts=alerts, total=total // 10)
                report = daemon.load(alerts=alerts, total=total)
                ours.append(report["alerts_s"])
                cpu.append(report["cpu_us"])
                p99.append(report["p99_ms"])
        ratio = median(ours) / median(floor)
        yield Row(
            f"new alerts, {alerts} in a body", rate(median(floor)), rate(median(ours)), ratio,
            "≥ 0.5 of the floor", ratio >= 0.5,
        )  # fmt: skip
        if alerts == 10:
            yield Row(
                "CPU per alert, 10 in a body", "", f"{median(cpu):.0f} µs", None, "≤ 30 µs", median(cpu) <= 30
            )
            yield Row(
                "p99 of a body, 10 in it", "", f"{median(p99):.0f} ms", None, "< 30 ms", median(p99) < 30
            )


def repeated() -> Iterator[Row]:
    """The same deliveries again, beside new ones."""
    new, again = [], []
    for _ in range(ROUNDS):
        with Daemon(policies(10, **HOLD), limits=WIDE) as daemon:
            tag = os.urandom(3).hex()
            same = {"run": tag, "repeatable": True, "starts_at": now_text()}
            new.append(daemon.load(alerts=10, total=100_000, **same)["alerts_s"])
            again.append(daemon.load(alerts=10, total=100_000, **same)["alerts_s"])
    ratio = median(again) / median(new)
    yield Row(
        "repeated alerts, 10 in a body (floor: new ones)", rate(median(new)), rate(median(again)), ratio,
        "≥ 1.5 times new ones", ratio >= 1.5,
    )  # fmt: skip


def many_policies() -> Iterator[Row]:
    """10 and 10,000 policies, in turns; and how long the many take to load."""
    cold = warm = plain = 0.0
    few, many = [], []
    for number in range(ROUNDS):
        with Daemon(policies(10, **HOLD), limits=WIDE) as daemon:
            few.append(daemon.load(alerts=10, total=100_000)["cpu_us"])
            daemon.process.stop()
            plain = daemon.start_timed()
        daemon = Daemon(policies(10_000, **HOLD), limits=WIDE)
        try:
            first = daemon.start_timed()
            many.append(daemon.load(alerts=10, total=100_000)["cpu_us"])
            if number == 0:
                daemon.process.stop()
                cold, warm = first - plain, daemon.start_timed() - plain
        finally:
            daemon.close()
    least, most = median(few), median(many)
    yield Row(
        "CPU per alert, 10,000 policies (floor: 10)", f"{least:.1f} µs", f"{most:.1f} µs", most / least,
        "≤ 1.1 times", most / least <= 1.1,
    )  # fmt: skip
    yield Row("loading 10,000 policies, cold", "", f"{cold:.1f} s", None, "< 10 s", cold < 10)
    yield Row("loading 10,000 policies, unchanged", "", f"{warm:.1f} s", None, "< 2 s", warm < 2)
