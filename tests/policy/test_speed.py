"""Ten thousand policies: how long they load, and what they cost an alert. In CPU time, so that a busy
machine does not fail it. `python -m tests.policy.test_speed` prints the figures."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from remediator.policy.cache import Cache
from remediator.policy.load import read_dir
from remediator.policy.set import PolicySet, compile_set
from tests.policy.words import VOCABULARY, alert, good

T = TypeVar("T")
MANY = 10_000


def write(directory: Path, count: int) -> None:
    """Policies that differ in everything, so that nothing is validated once for all of them."""
    for number in range(count):
        for name, text in good(
            f"p{number}",
            ("QueueDepthHigh", f"Alert{number}"),
            ("prod-gpu-workers", f"group-{number}"),
            ("prod-.+", f"prod-{number}-.+"),
        ).items():
            (directory / name).write_text(text)


def cpu(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


def per_alert(policies: PolicySet) -> float:
    """Seconds of CPU to match one alert: the best of several rounds, half of the alerts match."""
    hit = alert(alertname="Alert3", queue="prod-3-x", job="j", instance="i", severity="critical", team="t")
    miss = alert(alertname="Other", queue="prod-3-x", job="j", instance="i", severity="critical", team="t")
    assert [policy.name for policy in policies.match(hit)] == ["p3"]
    assert policies.match(miss) == ()

    def rounds() -> None:
        for _ in range(2000):
            policies.match(hit)
            policies.match(miss)

    return min(cpu(rounds)[0] for _ in range(7)) / 4000


def measure(directory: Path) -> dict[str, float]:
    write(directory, MANY)
    small = directory / ".small"
    small.mkdir()
    write(small, 10)
    reading, files = cpu(lambda: read_dir(directory))
    cold, many = cpu(lambda: compile_set(files, VOCABULARY, cache=Cache(directory / ".cache")))
    warm, again = cpu(lambda: compile_set(read_dir(directory), VOCABULARY, cache=Cache(directory / ".cache")))
    assert len(again.policies) == MANY
    few = compile_set(read_dir(small), VOCABULARY)
    return {
        "cold load, read and cache written, s": reading + cold,
        "unchanged load, s": warm,
        "match against 10, µs": per_alert(few) * 1e6,
        "match against 10,000, µs": per_alert(many) * 1e6,
    }


@pytest.mark.slow
def test_ten_thousand_policies(tmp_path: Path) -> None:
    cold, warm, few, many = measure(tmp_path).values()
    # about 5 and 1 s where nothing else runs
    assert cold < 60
    assert warm < 15
    # of the whole intake of an alert (tens of µs) ten thousand may cost a tenth more
    assert many - few < 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, figure in measure(Path(scratch)).items():
            sys.stdout.write(f"{name:45} {figure:8.2f}\n")
