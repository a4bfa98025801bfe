"""From the webhook to `apply`, with fsync at intake and at the intent."""

from __future__ import annotations

from collections.abc import Iterator

from bench.policies import WIDE, policies
from bench.server import Daemon, Floor
from bench.table import Row

LOAD = {"alerts": 1, "rate": 5, "total": 150, "match_every": 1}
"""Five alerts a second for half a minute, each of which matches."""


def latency() -> Iterator[Row]:
    """A policy without hold or checks."""
    with Floor("sq_group_idx") as floor, Daemon({}, limits=WIDE) as daemon:
        for name, policy in policies(10, str(daemon.actions)).items():
            daemon.write(name, policy)
        daemon.process.stop()
        daemon.process.start()
        floor.load(**LOAD | {"total": 10}, actions=floor.actions)
        daemon.load(**LOAD | {"total": 10}, actions=daemon.actions)
        least = floor.load(**LOAD, actions=floor.actions)
        ours = daemon.load(**LOAD, actions=daemon.actions)
    for part, most in (("p50", 4), ("p99", 10)):
        floor_ms, ms = least[f"action_{part}_ms"], ours[f"action_{part}_ms"]
        yield Row(
            f"webhook to apply at 5 alerts/s, {part}", f"{floor_ms:.1f} ms", f"{ms:.1f} ms", ms / floor_ms,
            f"< {most} ms", ms < most,
        )  # fmt: skip
    bad = ours["lost"] + ours["twice"]
    yield Row(
        "actions lost or done twice in that run", "", f"{bad} of {ours['actions']}", None, "0", bad == 0
    )
