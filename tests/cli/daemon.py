"""A daemon of one's own, started by `remediator serve` as people start it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.program import Program
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.servers.web import answers, post

OPERATOR, VIEWER = "operator-token-1234", "viewer-token-5678"

POLICY = """\
name: pressure
mode: enforce
from: [am]
match: [alertname="PressureHigh", site=~".+"]
remedies:
  - action: valve.open
    with: {directory: DIRECTORY, name: "${labels.valve}", by: 2}
limits: {cooldown: 0s, budget: [2 per 1h], per_target: [10 per 1h]}
verify:
  within: 10s
  every: 1s
  checks:
    - check: valve.turns
      with: {directory: DIRECTORY, name: "${labels.valve}"}
      is: "> 1"
escalate: on-call
"""
HELD = """\
name: patient
mode: enforce
from: [am]
match: [alertname="PressureHigh", site="held"]
for: 1h
remedies:
  - action: valve.open
    with: {directory: DIRECTORY, name: "${labels.valve}"}
"""
CHAINS = "chains:\n  on-call:\n    - {after: 0m, notify: [log]}\n"


class Daemon:
    """An installation in a directory, and its process.

    Args:
        more: text added to remediator.yaml.
    """

    def __init__(self, home: Path, more: str = "") -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program(home, {})
        (home / "policies").mkdir()
        for name, text in (
            ("pressure", POLICY),
            ("patient", HELD),
            ("escalation", CHAINS),
        ):
            self.put(name, text)
        (home / "main").write_text("0")
        (home / "remediator.yaml").write_text(
            f"server: {{port: {self.port}}}\n"
            f'store: {{url: "sqlite:///{home}/remediator.db"}}\n'
            "policies: {dir: policies, reload: 1h}\n"
            "plugins: [tests.cli.plugin]\n"
            "senders: {am: {kind: alertmanager}}\n"
            "access:\n  tokens:\n"
            f"    - {{name: alice, role: operator, token: {OPERATOR}}}\n"
            f"    - {{name: bob, role: viewer, token: {VIEWER}}}\n" + more
        )
        self.process: Process | None = None

    def put(self, name: str, text: str) -> None:
        (self.home / "policies" / f"{name}.yaml").write_text(text.replace("DIRECTORY", str(self.home)))

    def start(self, ready: bool = True) -> Process:
        self.process = Process(
            self.program.argv("serve"),
            log=self.home / "log",
            ready=(lambda: answers(f"{self.url}/readyz")) if ready else None,
            env=self.program.env(),
            cwd=self.home,
        ).start()
        return self.process

    def fire(self, status: str = "firing", **labels: str) -> int:
        labels = {"alertname": "PressureHigh", "severity": "critical", **labels}
        alert = {
            "status": status,
            "labels": labels,
            "annotations": {},
            "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": hashlib.sha256(repr(labels).encode()).hexdigest()[:16],
        }
        body = {"version": "4", "status": status, "receiver": "r", "groupKey": "g", "alerts": [alert]}
        return post(f"{self.url}/webhooks/am", json.dumps(body).encode())

    def log(self) -> list[dict[str, Any]]:
        """What the daemon has logged; a line that is no JSON fails the test."""
        return [json.loads(line) for line in (self.home / "log").read_text().splitlines()]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"never: {what}\n{(self.home / 'log').read_text()[-3000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
