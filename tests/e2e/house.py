"""An installation with the shipped policies, visibly shortened, and everything to ask about it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml

from tests.cli.program import Answer, Program
from tests.crash.installation import Installation

SHIPPED = Path(__file__).parents[2] / "policies"
PAYLOADS = Path(__file__).parents[1] / "payloads"
GCP = ("gcp", "gcp-password-for-tests")
"""Username and password of the sender gcp-prod."""
AM = "am-token-for-tests"
"""The bearer token of the sender alertmanager-prod."""
SENDERS = {
    "alertmanager-prod": {"kind": "alertmanager", "auth": {"bearer": AM}},
    "gcp-prod": {
        "kind": "cloud_monitoring",
        "auth": {"basic": {"username": GCP[0], "password": GCP[1]}},
    },
}


def shipped(name: str, **changes: str) -> str:
    """A shipped policy in mode enforce, with some of its values changed.

    Args:
        changes: key → its new value; `verify__within` is the key `within` below `verify`. Every one must be
            in the shipped text, once, or the test no longer tests what ships.
    """
    text = (SHIPPED / f"{name}.yaml").read_text()
    for place, value in {"mode": "enforce", **changes}.items():
        *above, key = place.split("__")
        before, section = "", text
        if above:
            before, mark, section = text.partition(f"\n{above[0]}:")
            assert mark, f"{name}.yaml has no section {above[0]}"
            before += mark
        section, found = re.subn(rf"(?m)^([ -]*{key}:) [^#\n]*", rf"\1 {value} ", section, count=1)
        assert found, f"{name}.yaml no longer has {place}"
        text = before + section
    return text


class House(Installation):
    """A daemon with shipped policies, and the command line beside it.

    Args:
        policies: name → text, as `shipped` gives it.
        escalation: the text of escalation.yaml, else the shipped one.
    """

    def __init__(
        self, home: Path, policies: dict[str, str], *, escalation: str | None = None, **settings: Any
    ) -> None:
        files = {f"{name}.yaml": text for name, text in policies.items()}
        files["limits.yaml"] = (SHIPPED / "limits.yaml").read_text()
        files["escalation.yaml"] = escalation or (SHIPPED / "escalation.yaml").read_text()
        super().__init__(home, files, **{"senders": SENDERS, **settings})
        self.command = Program(home, {})

    def __enter__(self) -> Self:
        return self

    def configure(self, section: str, **values: Any) -> None:
        """Change settings, before the start."""
        settings = yaml.safe_load(self.config.read_text())
        settings.setdefault(section, {}).update(values)
        self.config.write_text(yaml.safe_dump(settings))

    def alertmanager(self, *alerts: dict[str, Any]) -> httpx2.Response:
        """Deliver as Alertmanager does: the recorded notification, with these alerts in it."""
        body = json.loads((PAYLOADS / "alertmanager-v4-firing.json").read_text())
        body["alerts"] = list(alerts)
        return self.http.post(
            "/webhooks/alertmanager-prod", json=body, headers={"authorization": f"Bearer {AM}"}
        )

    def gcp(self, body: dict[str, Any]) -> httpx2.Response:
        """Deliver as Cloud Monitoring does."""
        return self.http.post("/webhooks/gcp-prod", json=body, auth=GCP)

    def remediator(self, *words: str | int) -> Answer:
        """Run the command line beside the daemon."""
        return self.command(*words, "--config", str(self.config))

    def run(self, id: int | None = None) -> dict[str, Any]:
        """One run with all that is known about it: this one, else the only one."""
        if id is None:
            (only,) = self.runs()
            id = only["id"]
        found: dict[str, Any] = self.get(f"runs/{id}")
        return found

    def ended(self, seconds: float = 20, runs: int = 1) -> dict[str, Any]:
        """The last of so many runs, once all have ended."""
        self.until(lambda: len(self.runs()) >= runs, f"{runs} runs are opened", seconds)
        self.until(lambda: all(run["outcome"] for run in self.runs()), "every run ends", seconds)
        return self.run(self.runs()[-1]["id"])

    def kinds(self, **filters: Any) -> list[str]:
        """The kinds of the audit events, oldest first."""
        return [event["kind"] for event in self.events(**filters)]

    def events(self, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("audit", oldest_first=True, limit=500, **filters)["items"]
        return found

    def log(self) -> list[dict[str, Any]]:
        """What the daemon has logged; a line that is no JSON fails the test."""
        return [json.loads(line) for line in (self.home / "daemon.log").read_text().splitlines()]

    def metric(self, line: str) -> float:
        """The value of a metric, given as it stands in /metrics: `remediator_policies`."""
        for found in self.http.get("/metrics").text.splitlines():
            if found.startswith(f"{line} "):
                return float(found.rpartition(" ")[2])
        raise AssertionError(f"there is no metric {line}")

    def quiet(self, seconds: float) -> None:
        """Give the daemon time to do what it should not."""
        time.sleep(seconds)


def open_incident(**changes: Any) -> dict[str, Any]:
    """The recorded incident, opened a second ago."""
    body: dict[str, Any] = json.loads((PAYLOADS / "gcp-monitoring-1.2-open.json").read_text())
    body["incident"] |= {"started_at": int(time.time()) - 1, **changes}
    return body


def stamp(at: float) -> str:
    """A time in seconds as the senders and the daemon write it, without its fraction."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))


def recorded_alert(**labels: str) -> dict[str, Any]:
    """The recorded alert with other labels; it starts now."""
    body = json.loads((PAYLOADS / "alertmanager-v4-firing.json").read_text())
    labels = {"severity": "critical", **labels}
    alert: dict[str, Any] = body["alerts"][0]
    return alert | {
        "labels": labels,
        "startsAt": stamp(time.time()),
        "fingerprint": hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16],
    }


def resolved(alert: dict[str, Any]) -> dict[str, Any]:
    """The same alert, over now."""
    return alert | {"status": "resolved", "endsAt": stamp(time.time())}
