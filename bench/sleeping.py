"""10,000 runs that wait in HOLD: their memory and idle CPU, and that a crash costs them nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2

from bench.policies import WIDE, policies
from bench.server import Daemon
from bench.table import Row
from tests.servers.process import Failed

RUNS = 10_000
IDLE = 20.0
"""Seconds for which nothing happens, to measure what that costs."""
AFTER = 60.0
"""Seconds after their hold for which the runs of a killed daemon are watched; how fast they go is measured
elsewhere."""
REST = 3.0
"""Seconds after the last alert until everything about it is done (sealed, measured, checkpointed)."""


def sleeping() -> Iterator[Row]:
    """Beside a daemon that took as many alerts that matched nothing: what is more are the runs."""
    awake, _ = _resident(match_every=0)
    asleep, idle = _resident(match_every=1)
    cost = asleep - awake
    yield Row(f"{RUNS:,} runs waiting in HOLD: memory", f"{awake:.0f} MB without", f"{cost:+.1f} MB", None,
              "≤ 15 MB", cost <= 15)  # fmt: skip
    yield Row(f"{RUNS:,} runs waiting in HOLD: idle CPU over {IDLE:.0f} s", "", f"{idle:.2%} of a core", None,
              "≤ 0.5%", idle <= 0.005)  # fmt: skip


def _resident(match_every: int) -> tuple[float, float]:
    """Megabytes held, and the share of a core used, after the alerts."""
    with Daemon(policies(10, **{"for": "1h"}), limits=WIDE) as daemon:
        report = daemon.load(alerts=10, total=RUNS, match_every=match_every)
        if report["accepted_matching"] != (RUNS if match_every else 0):
            raise Failed(f"not every alert opened a run: {report}")
        time.sleep(REST)
        resident = daemon.resident()
        before, begun = daemon.cpu(), time.perf_counter()
        time.sleep(IDLE)
        share = (daemon.cpu() - before) / (time.perf_counter() - begun)
        _open(daemon, RUNS if match_every else 0)
        return resident, share


def recovering() -> Iterator[Row]:
    """kill -9 while they all wait: the rows are there, nothing is resumed, and each acts in its time."""
    hold = 40.0
    daemon = Daemon({}, limits={**WIDE, "global": {**WIDE["global"], "concurrent": RUNS}})
    for name, policy in policies(1, str(daemon.actions), **{"for": f"{hold:.0f}s"}).items():
        policy["limits"]["concurrent"] = RUNS
        daemon.write(name, policy)
    with daemon:
        begun = time.perf_counter()
        daemon.load(alerts=10, total=RUNS, match_every=1)
        daemon.process.kill()
        ready = daemon.start_timed()
        _open(daemon, RUNS)
        while time.perf_counter() < begun + hold + AFTER and len(_acted(daemon)) < RUNS:
            time.sleep(0.5)
        acted = _acted(daemon)
    once = len(acted) == len(set(acted))
    yield Row(
        f"ready after kill -9 with {RUNS:,} runs in HOLD", "", f"{ready:.2f} s", None, "< 3 s", ready < 3
    )
    yield Row(
        f"of them acted within {AFTER:.0f} s of their hold, none twice", "", f"{len(acted):,}", None, "go on",
        once and bool(acted),
    )  # fmt: skip


def _acted(daemon: Daemon) -> list[str]:
    """Which alerts were acted on, one line each."""
    if not daemon.actions.exists():
        return []
    return [line.split()[0] for line in daemon.actions.read_text().splitlines() if line]


def _open(daemon: Daemon, wanted: int) -> None:
    """The daemon's own count, which it measures every 2 seconds."""
    address = daemon.url.split("/webhooks/")[0]
    end = time.monotonic() + 10
    while True:
        text = httpx2.get(f"{address}/metrics").text
        found = next(line for line in text.splitlines() if line.startswith("remediator_open_runs "))
        if float(found.split()[1]) == wanted:
            return
        if time.monotonic() > end:
            raise Failed(f"{wanted} open runs were expected: {found}")
        time.sleep(0.2)
