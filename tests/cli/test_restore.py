"""A policy that does not heal is demoted, and `policies restore` gives it its mode back."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.cli.daemon import VIEWER, Daemon

USELESS = """\
name: useless
mode: enforce
from: [am]
match: [alertname="Useless"]
remedies:
  - action: valve.open
    with: {directory: DIRECTORY, name: "${labels.valve}"}
limits: {cooldown: 0s, per_target: [9 per 1h], budget: [9 per 1h]}
verify:
  within: 1s
  every: 1s
  checks:
    - check: valve.turns
      with: {directory: DIRECTORY, name: "${labels.valve}"}
      is: "> 50"
"""


def test_a_policy_is_demoted_and_restored(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.put("useless", USELESS)
    daemon.put("limits", "breaker: {ineffective: 2, demote_to: observe}\n")
    daemon.start()

    def ends(count: int) -> list[str]:
        daemon.until(lambda: len(ended()) >= count, f"{count} runs that ended")
        return [run["outcome"] for run in reversed(ended())]

    def ended() -> list[dict[str, str]]:
        found: list[dict[str, str]] = daemon.program(
            "runs", "list", "--policy", "useless", "--ended", "-o", "json"
        ).json
        return found

    def gauge() -> str:
        with urllib.request.urlopen(f"{daemon.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(line for line in lines if line.startswith('remediator_breaker_open{policy="useless"}'))

    try:
        assert gauge().endswith(" 0.0")
        for pod in ("a", "b"):
            daemon.fire(alertname="Useless", valve="main", pod=pod)
            ends(1 if pod == "a" else 2)
        daemon.until(lambda: gauge().endswith(" 1.0"), "the gauge")
        daemon.fire(alertname="Useless", valve="main", pod="c")
        assert ends(3) == ["escalated", "escalated", "observed"]
        refused = daemon.program("policies", "restore", "useless", "--comment", "x", "--token", VIEWER)
        assert refused.code == 1
        assert daemon.program("policies", "restore", "useless").code == 2
        restored = daemon.program("policies", "restore", "useless", "--comment", "it was the wrong valve")
        assert (restored.code, restored.out) == (0, "policy useless has its own mode again\n")
        again = daemon.program("policies", "restore", "useless", "--comment", "twice")
        assert again.code == 1
        assert "not demoted; demoted are: none" in again.err
        daemon.fire(alertname="Useless", valve="main", pod="d")
        assert ends(4)[-1] == "escalated"
        (event,) = daemon.program("audit", "query", "--kind", "policy.restored", "-o", "json").json
        assert (event["actor"], event["policy"]) == ("alice", "useless")
        assert event["data"]["reason"] == "it was the wrong valve"
    finally:
        daemon.stop()
