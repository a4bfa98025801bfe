"""One installation of the daemon in a directory: settings, policies, and its process, which may be killed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.servers.ports import free_port
from tests.servers.process import Process

ROOT = Path(__file__).parents[2]
TOKEN = "sender-token-for-tests"


class Installation:
    """Settings and policies under `home`, and at most one process at a time.

    Args:
        policies: file name → text.
        settings: merged over the defaults, section by section.
    """

    def __init__(self, home: Path, policies: dict[str, str], **settings: Any) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = home / "remediator.db"
        (home / "policies").mkdir(parents=True, exist_ok=True)
        for name, text in policies.items():
            (home / "policies" / name).write_text(text)
        self.config = home / "remediator.yaml"
        self.program: Sequence[str] = ("remediator", "--config", str(self.config), "serve")
        """the module to run and its arguments"""
        self.config.write_text(
            yaml.safe_dump(
                {
                    "server": {"host": "127.0.0.1", "port": self.port},
                    "store": {"url": f"sqlite:///{self.database}"},
                    "policies": {"dir": str(home / "policies"), "reload": "200ms"},
                    "senders": {"am": {"kind": "alertmanager", "auth": {"bearer": TOKEN}}},
                    **settings,
                }
            )
        )
        self.env: dict[str, str] = {}
        """More of the daemon's environment."""
        self.process: Process | None = None
        self.http = httpx2.Client(base_url=self.url, timeout=10)

    def start(self, failpoint: str = "", timeout: float = 20, wait: bool = True) -> Process:
        """Start the daemon; with `wait`, return when it is ready."""
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("REMEDIATOR_")},
            "PYTHONPATH": str(ROOT),
            "REMEDIATOR_FAILPOINT": failpoint,
            **self.env,
        }
        self.process = Process(
            [sys.executable, "-m", *self.program],
            log=self.home / "daemon.log",
            ready=self._ready if wait else None,
            timeout=timeout,
            env=env,
            cwd=self.home,
        ).start()
        return self.process

    def _ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> int | None:
        return self.process.stop() if self.process is not None else None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def dead(self, timeout: float = 10) -> bool:
        """Whether the process ends by itself within `timeout` seconds."""
        assert self.process is not None
        end = time.monotonic() + timeout
        while self.process.running and time.monotonic() < end:
            time.sleep(0.01)
        return not self.process.running

    def post(self, *alerts: dict[str, Any]) -> int | None:
        """Deliver as Alertmanager would; the status, or None where no answer came."""
        body = {"version": "4", "status": "firing", "alerts": list(alerts), "receiver": "r", "groupKey": "g"}
        try:
            answer = self.http.post(
                "/webhooks/am", content=json.dumps(body), headers={"authorization": f"Bearer {TOKEN}"}
            )
        except httpx2.TransportError:
            return None
        return answer.status_code

    def get(self, path: str, **params: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first."""
        return sorted(self.get("runs", limit=500)["items"], key=lambda run: run["id"])

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Poll until it holds.

        Raises:
            AssertionError: it never did; the message ends with the daemon's log.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                tail = self.process.tail(40) if self.process is not None else ""
                state = f"its process ended with {code}" if (code := self._code()) is not None else "it runs"
                raise AssertionError(f"never: {what}; {state}\n{tail}")
            time.sleep(0.02)

    def _code(self) -> int | None:
        return self.process.returncode if self.process is not None else None

    def close(self) -> None:
        self.kill()
        self.http.close()

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def firing(name: str = "QueueHigh", status: str = "firing", **labels: str) -> dict[str, Any]:
    """One alert as Alertmanager sends it."""
    labels = {"alertname": name, "severity": "critical", **labels}
    return {
        "status": status,
        "labels": labels,
        "annotations": {},
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": format(abs(hash(tuple(sorted(labels.items())))), "016x")[:16],
    }
