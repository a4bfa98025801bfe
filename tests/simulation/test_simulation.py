"""Many histories, none of which may break an invariant; and each can be played again exactly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.scenario import draw
from tests.simulation.shrink import shrink
from tests.simulation.simulation import play, quiet

ROOT = Path(__file__).parent.parent.parent
FIRST, SEEDS = 0, 2000
"""In CI, all of them, however long it takes: a minute on two cores. `make simulate` plays others."""
SEEN = (
    "kill", "freeze", "kill-at", "freeze-at", "stop", "clock", "policies", "pause", "cancel", "cleared",
    "approved", "because:approval_rejected", "because:approval_expired", "waits:window", "waits:storm",
    "because:breaker", "acknowledge", "restore",
    "reissued", "quarantined", "outcome:unknown", "outcome:not_applied", "run:hand", "run:lease",
    "lease inherited", "waits:budget", "waits:cooldown", "waits:lock_busy", "waits:concurrency",
    "waits:paused", "waits:action_unknown", "waits:check_unanswered", "ended:succeeded", "ended:reverted",
    "ended:escalated", "ended:refused", "ended:cancelled", "ended:observed", "ended:nothing_to_do",
    "late: its process is gone or frozen", "delivered again",
)  # fmt: skip
"""What must have come about at all: histories in which nothing happens prove nothing."""


def _command(*arguments: object, seed: str = "0") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_no_history_breaks_an_invariant(record_property: Callable[[str, object], None]) -> None:
    """On two cores beside each other."""
    began = time.monotonic()
    halves = [
        _command("run", "--first", FIRST + half, "--step", 2, "--seeds", SEEDS // 2, "--go-on")
        for half in (0, 1)
    ]
    said = [half.communicate()[0] for half in halves]
    took = time.monotonic() - began
    played, hours = 0, 0.0
    seen: set[str] = set()
    for half, text in zip(halves, said, strict=True):
        assert half.returncode == 0, text
        (count, own), *_ = re.findall(r"^(\d+) seeds from \d+, ([0-9.]+) simulated hours", text, re.MULTILINE)
        played, hours = played + int(count), hours + float(own)
        seen |= set(re.findall(r"^ +\d+  (.+)$", text, re.MULTILINE))
    record_property(
        "summary",
        f"simulation: {played} seeds, {hours:.0f} simulated hours in {took:.0f}s "
        f"({hours / took:.1f} hours per second), no invariant broken",
    )
    assert played == SEEDS
    assert seen.issuperset(SEEN), f"never seen: {sorted(set(SEEN) - seen)}"


def test_a_seed_is_played_again_exactly() -> None:
    seeds = (1, 2, 3, 5, 8, 13, 21, 34)
    with quiet():
        once = [play(draw(seed)).trace for seed in seeds]
        again = [play(draw(seed)).trace for seed in seeds]
    assert once == again
    assert len(set(once)) == len(seeds)


def test_another_process_plays_it_exactly_as_well() -> None:
    """Nothing depends on the order of sets, which differs from process to process."""
    seeds = range(60, 72)
    told = [_command("trace", *seeds, seed=hash_seed) for hash_seed in ("1", "2")]
    first, second = (process.communicate()[0] for process in told)
    assert first == second
    assert len(first.split()) == 2 * len(seeds)


def test_a_failing_history_is_shrunk_to_what_it_takes() -> None:
    with quiet():
        for seed in range(50):
            scenario = replace(draw(seed), sabotage="drops-the-lock")
            violation = play(scenario).violation
            if violation is not None and len(scenario.items) > 30:
                break
        assert violation is not None
        least = shrink(scenario, violation.invariant)
        assert play(least).violation == play(least).violation != None  # noqa: E711
    assert len(least.items) <= 3
    assert any(item.kind in ("fire", "start") for item in least.events)


@pytest.mark.parametrize("verb", ["replay", "shrink"])
def test_replay_and_shrink_print_what_happened(verb: str) -> None:
    process = _command(verb, 3, "--sabotage", "loses-alerts")
    text = process.communicate()[0]
    assert process.returncode == 1, text
    assert "VIOLATION an accepted alert is never lost" in text
    assert "* fire" in text
