"""Every run that ends is counted, also one that ends without ever being advanced."""

from __future__ import annotations

from pathlib import Path

from tests.crash.provider import Provider
from tests.e2e.house import House, recorded_alert

HOLDS = """
name: grow
mode: enforce
from: [alertmanager-prod]
match: [alertname="QueueHigh"]
for: 1h
remedies:
  - action: recorder.grow
    with: {connection: recorder, name: "${labels.queue}", add: 2, max: 10, url: "URL"}
limits: {open_runs: 1}
"""


def test_runs_refused_at_intake_and_cancelled_by_a_person_are_counted(tmp_path: Path) -> None:
    with (
        Provider() as provider,
        House(
            tmp_path,
            {"grow": HOLDS.replace("URL", provider.url)},
            connections={"recorder": {"kind": "http", "url": provider.url}},
            plugins=["tests.crash.plugin"],
        ) as house,
    ):
        house.start()
        for queue in ("first", "second", "third"):
            assert house.alertmanager(recorded_alert(alertname="QueueHigh", queue=queue)).status_code == 200
        first, second, third = house.runs()
        assert (first["outcome"], second["reason"], third["reason"]) == (None, "open_runs", "open_runs")
        assert house.metric('remediator_runs_total{outcome="refused",policy="grow"}') == 2
        assert house.metric('remediator_refusals_total{reason="open_runs"}') == 2
        answer = house.http.post(f"/api/v1/runs/{first['id']}/cancel", json={"reason": "not needed"})
        assert answer.status_code == 200, answer.text
        assert house.metric('remediator_runs_total{outcome="cancelled",policy="grow"}') == 1
        started = house.http.post(
            "/api/v1/runs", json={"policy": "grow", "labels": {"queue": "a"}, "reason": "x"}
        )
        assert started.status_code in (200, 201), started.text
        refused = house.http.post(
            "/api/v1/runs", json={"policy": "grow", "labels": {"queue": "b"}, "reason": "x"}
        )
        assert refused.json()["reason"] == "open_runs"
        assert house.metric('remediator_refusals_total{reason="open_runs"}') == 3
