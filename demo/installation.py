"""An installation of remediator as a user would have it: a directory with settings, policies and a store."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from demo.story import Failure
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.servers.web import answers, get

SHIPPED = Path(__file__).parent.parent / "policies"
POLICY = "connection-pool-cancel-long-queries"
SENDER = "alertmanager-prod"
CHANGES = {
    "mode: observe": "mode: enforce",
    "longer_than: 5m": "longer_than: 3s",
    "after: 10s": "after: 1s",
    "within: 2m": "within: 5s",
    "every: 15s": "every: 1s",
    "stable_for: 30s": "stable_for: 2s",
}
"""What the demo changes in its copy: it acts, and it does not take minutes."""


class Installation:
    """The daemon, its settings, and a copy of the shipped policy set to enforce.

    Args:
        directory: where it lives; the caller removes it.
        dsn: the database that its connection `orders` names.
    """

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.token = secrets.token_urlsafe(16)
        self.config = directory / "remediator.yaml"
        self.changed = self._policy()
        self.config.write_text(yaml.safe_dump(self._settings(dsn), sort_keys=False))
        self.process = Process(
            [sys.executable, "-m", "remediator", "serve", "--config", str(self.config)],
            log=directory / "remediator.log",
            ready=lambda: answers(f"{self.url}/readyz"),
            grace=30,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook(self) -> str:
        return f"{self.url}/webhooks/{SENDER}"

    def _settings(self, dsn: str) -> dict[str, Any]:
        return {
            "server": {"host": "127.0.0.1", "port": self.port},
            "store": {"url": f"sqlite:///{self.directory / 'remediator.db'}"},
            "policies": {"dir": "policies", "reload": "1s"},
            "senders": {SENDER: {"kind": "alertmanager", "auth": {"bearer": self.token}}},
            "connections": {"orders": {"kind": "postgres", "dsn": dsn}},
        }

    def _policy(self) -> list[str]:
        """Copy the shipped policy with its changes; returns them as `new (was old)`."""
        target = self.directory / "policies"
        target.mkdir()
        for name in ("limits.yaml", "windows.yaml", "escalation.yaml"):
            if (SHIPPED / name).exists():
                shutil.copy(SHIPPED / name, target / name)
        lines = (SHIPPED / f"{POLICY}.yaml").read_text().splitlines()
        found = {}
        for number, line in enumerate(lines):
            old = line.partition(" #")[0].strip()
            if old in CHANGES:
                lines[number] = line[: line.index(old)] + CHANGES[old]
                found[old] = f"{CHANGES[old]} (was {old.partition(': ')[2]})"
        if found.keys() != CHANGES.keys():
            missing = ", ".join(CHANGES.keys() - found.keys())
            raise Failure(f"the shipped {POLICY}.yaml no longer has what the demo changes: {missing}")
        (target / f"{POLICY}.yaml").write_text("\n".join(lines) + "\n")
        return list(found.values())

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `remediator …` beside the daemon, as a person would; both outputs are kept."""
        return subprocess.run(
            [sys.executable, "-m", "remediator", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def ask(self, path: str, **query: Any) -> Any:
        """GET from the API."""
        return get(f"{self.url}/api/v1/{path}" + (f"?{urlencode(query)}" if query else ""))

    def problems(self) -> str:
        """What the daemon's log says of warnings and errors, and its end."""
        grave = []
        for line in self.process.log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                grave.append(line)
                continue
            if record.get("level") not in ("debug", "info"):
                grave.append(line)
        return "\n".join(grave[-20:]) or self.process.tail(10)

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()
