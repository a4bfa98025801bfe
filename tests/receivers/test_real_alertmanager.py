"""A real Alertmanager posts to a real daemon: it fires, is repeated, and resolves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.servers.alertmanager import Alertmanager, webhook_config
from tests.servers.web import post
from tests.web.served import Running, serving


def until(condition: Callable[[], Any], within: float = 15) -> Any:
    """What the condition answered when it first held."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def count(running: Running, result: str) -> float:
    with running.client() as client:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(f'remediator_alerts_total{{result="{result}",sender="am"}} '):
                return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric for {result}")


def at(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_real_alertmanager_fires_repeats_and_resolves(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        hook = webhook_config(f"{running.url}/webhooks/am", bearer="am-token-for-tests")
        before = {
            result: count(running, result) for result in ("accepted", "repeated", "resolved", "rejected")
        }

        def came(result: str) -> bool:
            return count(running, result) > before[result]

        with Alertmanager(hook) as sender:
            began = datetime.now(UTC) - timedelta(seconds=5)
            alert: dict[str, Any] = {
                "labels": {"alertname": "Stuck", "instance": 'a"b\\c\u00fc', "severity": "critical"},
                "annotations": {"summary": "x"},
                "startsAt": at(began),
                "endsAt": at(began + timedelta(hours=1)),
            }
            assert post(f"{sender.url}/api/v2/alerts", json.dumps([alert]).encode()) == 200
            until(lambda: came("accepted"))
            until(lambda: came("repeated"))
            with running.client() as client:
                (found,) = client.get("/api/v1/alerts").json()["items"]
                (run,) = client.get("/api/v1/runs").json()["items"]
            assert found["labels"] == {**alert["labels"], "severity": "P1", "sender_severity": "critical"}
            assert found["starts_at"] == alert["startsAt"]
            assert found["status"] == "firing"
            assert run["state"] == "HOLD"

            alert["endsAt"] = at(datetime.now(UTC))
            assert post(f"{sender.url}/api/v2/alerts", json.dumps([alert]).encode()) == 200
            until(lambda: came("resolved"))
            with running.client() as client:
                (found,) = client.get("/api/v1/alerts").json()["items"]
                (ended,) = until(lambda: client.get("/api/v1/runs", params={"open": "false"}).json()["items"])
        assert found["status"] == "resolved"
        assert ended["outcome"] == "cancelled"
        assert ended["reason"] == "alert_resolved"
        assert count(running, "rejected") == before["rejected"]
