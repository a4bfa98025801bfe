"""Windows and storms on a real daemon, over its restart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.cli.daemon import Daemon
from tests.servers.web import post

FREE = """\
name: pressure
mode: enforce
from: [am]
match: [alertname="PressureHigh"]
remedies:
  - action: valve.open
    with: {directory: DIRECTORY, name: "${labels.valve}"}
limits: {cooldown: 0s, budget: [99 per 1h], concurrent: 9}
"""
WINDOW = """\
windows:
  - name: all-day
    time_intervals: [{}]
    targets: ["valve:m*"]
    effect: wait
"""


def runs(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.program("runs", "list", "-o", "json").json
    return found


def pour(daemon: Daemon, valves: list[str]) -> None:
    """New alerts in one delivery."""
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "PressureHigh", "valve": valve},
            "annotations": {},
            "startsAt": begun,
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": f"{number:016x}",
        }
        for number, valve in enumerate(valves)
    ]
    body = {"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": alerts}
    assert post(f"{daemon.url}/webhooks/am", json.dumps(body).encode()) == 200


def test_a_storm_is_not_acted_upon_not_even_after_a_kill(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.put("pressure", FREE)
    daemon.put("limits", "storm: {new_alerts: 10, within: 1m, hold: 1h}\n")
    valves = [f"v{number}" for number in range(12)]
    for valve in valves:
        (tmp_path / valve).write_text("0")
    process = daemon.start()
    try:
        pour(daemon, valves)
        process.kill()
        process = daemon.start()
        daemon.until(lambda: {run["reason"] for run in runs(daemon)} == {"storm"}, "all are held")
        assert {run["state"] for run in runs(daemon)} == {"GUARD"}
        assert [(tmp_path / valve).read_text() for valve in valves] == ["0"] * 12
        alert = daemon.program("alerts", "list", "-o", "json").json[0]["id"]
        said = daemon.program("alerts", "explain", alert).out
        assert "storm: 12 new alerts of am within 1m" in said
        (event,) = daemon.program("audit", "query", "--kind", "storm.tripped", "-o", "json").json
        assert (event["reason"], event["allowed"]) == ("storm", "fewer than 10")
    finally:
        daemon.stop()


def test_a_window_holds_its_targets_only(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.put("pressure", FREE)
    daemon.put("windows", WINDOW)
    (tmp_path / "other").write_text("0")
    daemon.start()
    try:
        pour(daemon, ["main", "other"])
        daemon.until(lambda: (tmp_path / "other").read_text() == "1", "the valve that no window names")
        daemon.until(lambda: "window" in [run["reason"] for run in runs(daemon)], "the other waits")
        assert (tmp_path / "main").read_text() == "0"
        (tmp_path / "policies" / "windows.yaml").unlink()
        assert post(f"{daemon.url}/-/reload", b"", {"Authorization": "Bearer operator-token-1234"}) == 200
        daemon.until(lambda: (tmp_path / "main").read_text() == "1", "it goes on at once", seconds=5)
    finally:
        daemon.stop()
