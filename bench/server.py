"""What is measured: the daemon, and a floor. Each in a directory of its own, thrown away after."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import psutil
import psycopg
import yaml

from tests.servers.directory import temporary
from tests.servers.ports import free_port, listens
from tests.servers.postgres import Postgres
from tests.servers.process import Failed, Process, Served
from tests.servers.web import answers

SENDER = "bench"
ROOT = Path(__file__).parent.parent


class Server(Served):
    """What both have: a process, an address, CPU and memory."""

    def __init__(self, name: str) -> None:
        self.directory = temporary(f"bench-{name}")
        self.port = free_port()
        self.headers: list[str] = []
        self.process: Process

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def actions(self) -> Path:
        """The file to which the actions of matching alerts are written."""
        return self.directory / "actions"

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def resident(self) -> float:
        """Megabytes (10^6 bytes) of memory held."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def load(self, **options: Any) -> dict[str, Any]:
        """Drive it with `bench.load`; adds the CPU microseconds per alert."""
        words = [word for name, value in options.items() for word in _option(name, value)]
        words += [word for header in self.headers for word in ("-H", header)]
        before = self.cpu()
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", self.url, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=ROOT,
        )
        if done.returncode:
            raise Failed(f"the load generator ended with {done.returncode}\n{done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)
        if report["connection_errors"] or set(report["statuses"]) - {"200"}:
            raise Failed(f"{self.url} did not take every body: {report}\n{self.process.tail()}")
        report["cpu_us"] = (self.cpu() - before) * 1e6 / max(1, report["alerts"])
        return report


class Floor(Server):
    """One of `bench.floors`."""

    def __init__(self, mode: str, url: str = "") -> None:
        super().__init__(mode)
        environment = os.environ | {
            "FLOOR_MODE": mode,
            "FLOOR_DB": str(self.directory / "floor.db"),
            "FLOOR_URL": url,
            "FLOOR_ACTIONS": str(self.actions),
        }
        self.process = Process(
            [sys.executable, "-m", "uvicorn", "bench.floors:app", "--port", str(self.port),
             "--lifespan", "off", "--no-access-log", "--log-level", "warning"],
            log=self.directory / "log",
            env=environment,
            cwd=ROOT,
            ready=lambda: listens(self.port),
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"


class Daemon(Server):
    """remediator as it is installed, with policies of the bench.

    Args:
        policies: file name → policy.
        limits: limits.yaml.
        connections: as in settings.
        store: its address; a file of its own otherwise.
        workers: as in settings.
    """

    def __init__(
        self,
        policies: dict[str, dict[str, Any]],
        *,
        limits: dict[str, Any] | None = None,
        connections: dict[str, Any] | None = None,
        store: str = "",
        workers: int = 32,
    ) -> None:
        super().__init__("daemon")
        token = secrets.token_urlsafe(16)
        self.headers = [f"Authorization: Bearer {token}"]
        self.config = self.directory / "remediator.yaml"
        settings = {
            "server": {"port": self.port},
            "store": {"url": store or f"sqlite:///{self.directory / 'remediator.db'}"},
            "engine": {"workers": workers},
            "policies": {"dir": "policies"},
            "senders": {SENDER: {"kind": "alertmanager", "auth": {"bearer": token}}},
            "connections": connections or {},
            "log": {"level": "warning"},
            "plugins": ["bench.plugin"],
        }
        self.config.write_text(yaml.safe_dump(settings))
        (self.directory / "policies").mkdir()
        for name, policy in policies.items():
            self.write(name, policy)
        if limits is not None:
            self.write("limits", limits)
        self.process = Process(
            [sys.executable, "-m", "remediator", "serve", "--config", str(self.config)],
            log=self.directory / "log",
            cwd=ROOT,
            ready=lambda: answers(f"http://127.0.0.1:{self.port}/readyz"),
            timeout=120,
            grace=60,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/{SENDER}"

    def write(self, name: str, policy: dict[str, Any]) -> None:
        (self.directory / "policies" / f"{name}.yaml").write_text(json.dumps(policy))

    def start_timed(self) -> float:
        """Start it; returns the seconds until it was ready."""
        begun = time.perf_counter()
        self.process.start()
        return time.perf_counter() - begun


class Cluster:
    """A PostgreSQL server that syncs, and what its processes cost."""

    def __init__(self) -> None:
        self._server = Postgres(settings={"shared_buffers": "128MB", "max_wal_size": "2GB"})
        self._made = 0

    def new(self) -> str:
        """The address of a new, empty database."""
        self._made += 1
        name = f"bench{self._made}"
        with psycopg.connect(self._server.superuser_dsn, autocommit=True) as connection:
            connection.execute(cast(Any, f"CREATE DATABASE {name}"))
        return self._server.dsn(dbname=name)

    def cpu(self) -> float:
        """Seconds of CPU of all processes that run now, and of those that have ended."""
        first = psutil.Process(self._server.process.pid)
        times = [first.cpu_times(), *(child.cpu_times() for child in first.children(recursive=True))]
        ended = times[0].children_user + times[0].children_system
        return float(sum(time.user + time.system for time in times) + ended)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, str(value)]


def median(values: list[float]) -> float:
    return statistics.median(values)
