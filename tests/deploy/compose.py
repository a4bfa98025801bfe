"""What compose.yaml describes, as processes: its files, commands, users, mounts and names; no engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from tests.servers.container import Container, Mount, Network
from tests.servers.directory import unprivileged
from tests.servers.postgres import binaries
from tests.servers.process import find

ROOT = Path(__file__).parents[2]
NOBODY = (65534, 65534)
# What docker-entrypoint.sh of the image postgres does with an empty volume, then with its command.
_POSTGRES = """
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth=trust --no-sync
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses='' -c unix_socket_directories=/tmp" start
  createdb --host=/tmp --username=postgres "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --set=ON_ERROR_STOP=1 --no-psqlrc --username=postgres --dbname="$POSTGRES_DB" --file="$file"
  done
  pg_ctl --mode=fast --wait stop
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


@dataclass(frozen=True)
class Image:
    """What an image brings: its program, user, environment, where it begins, and the directory it owns."""

    entrypoint: Sequence[str]
    user: tuple[int, int]
    workdir: str
    command: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    healthcheck: Sequence[str] = ()
    owns: str = ""
    stop_signal: signal.Signals = signal.SIGTERM


def own() -> Image:
    """The one of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace(
        "\\\n", " "
    )
    found = dict(line.split(None, 1) for line in text.rpartition("FROM ")[2].splitlines()[1:] if line.strip())
    uid, gid = found["USER"].strip().split(":")
    return Image(
        entrypoint=json.loads(found["ENTRYPOINT"]),
        command=json.loads(found["CMD"]),
        user=(int(uid), int(gid)),
        workdir=found["WORKDIR"].strip(),
        env=dict(word.split("=", 1) for word in shlex.split(found["ENV"])),
        healthcheck=json.loads(found["HEALTHCHECK"].split("CMD", 1)[1]),
        owns="/var/lib/remediator",
    )


def image(name: str) -> Image:
    """What stands in for an image: the same program of this machine.

    Raises:
        Missing: it is not installed.
    """
    path = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    match name.partition(":")[0]:
        case "remediator":
            return own()
        case "postgres":
            env = {"PATH": f"{binaries()}:{path['PATH']}", "PGDATA": "/var/lib/postgresql/data"}
            env |= {"PGHOST": "/tmp", "LANG": "C.UTF-8"}
            entrypoint = ["sh", "-euc", _POSTGRES, "entrypoint"]
            user = unprivileged() or (os.getuid(), os.getgid())
            owns = "/var/lib/postgresql/data"
            return Image(entrypoint, user, "/", env=env, owns=owns, stop_signal=signal.SIGINT)
        case "prom/prometheus":
            program = find("prometheus", hint="apt-get install prometheus")
            return Image([program], NOBODY, "/prometheus", env=path, owns="/prometheus")
        case "prom/alertmanager":
            program = find(
                "prometheus-alertmanager", "alertmanager", hint="apt-get install prometheus-alertmanager"
            )
            return Image([program], NOBODY, "/alertmanager", env=path, owns="/alertmanager")
        case "quay.io/prometheuscommunity/postgres-exporter":
            program = find(
                "postgres_exporter",
                "prometheus-postgres-exporter",
                hint="apt-get install prometheus-postgres-exporter",
            )
            return Image([program], NOBODY, "/", env=path)
        case "redis":
            find("redis-server", hint="apt-get install redis-server")
            return Image([], (999, 999), "/data", env=path)
        case other:
            raise AssertionError(f"compose.yaml has an image that nothing stands in for: {other}")


class Compose:
    """All services of compose.yaml, for the time of a `with`.

    Args:
        home: an empty directory for volumes and logs.
        changed: file of compose.yaml → the text to mount in its place.
        engine: starts what runs from the image remediator:local; without it the checkout stands in for it.
    """

    def __init__(
        self,
        home: Path,
        changed: dict[str, str] | None = None,
        engine: Callable[..., Container] = Container,
    ) -> None:
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        self.home = home
        self.changed = changed or {}
        self.engine = engine
        self.network = Network(list(self.services))
        self.running: dict[str, Container] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.network)
            for name in self._order():
                self.up(name)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _order(self) -> list[str]:
        """Services, each after those that it depends on."""
        found: list[str] = []
        waiting = list(self.services)
        while waiting:
            name = next(one for one in waiting if set(self.services[one].get("depends_on", {})) <= set(found))
            waiting.remove(name)
            found.append(name)
        return found

    def up(self, name: str) -> None:
        """Start one; one that ends by itself has ended, one with a health check is well."""
        service, found = self.services[name], image(self.services[name]["image"])
        user = found.user
        if "user" in service:
            uid, gid = service["user"].split(":")
            user = (int(uid), int(gid))
        start = self.engine if service["image"].startswith("remediator:") else Container
        container = start(
            self.network,
            self.home / name,
            [*service.get("entrypoint", found.entrypoint), *service.get("command", found.command)],
            env=found.env | service.get("environment", {}),
            user=user,
            mounts=[self._mount(entry, found) for entry in service.get("volumes", [])],
            tmpfs=service.get("tmpfs", []) if service.get("read_only") else ["/tmp", "/run"],
            read_only=service.get("read_only", False),
            capable="cap_drop" not in service,
            workdir=service.get("working_dir", found.workdir),
            stop_signal=found.stop_signal,
        )
        needed = [one["depends_on"] for one in self.services.values() if name in one.get("depends_on", {})]
        conditions = {one[name]["condition"] for one in needed}
        if conditions == {"service_completed_successfully"}:
            with container:
                assert container.process.wait(300) == 0, container.process.tail()
            return
        self._stack.enter_context(container)
        self.running[name] = container
        check = [
            one for one in service.get("healthcheck", {}).get("test", []) if one != "CMD"
        ] or found.healthcheck
        for port in service.get("ports", []):
            self.until(lambda port=port: self._listens(name, int(port.rpartition(":")[2])), f"{name} listens")
        if check:
            self.until(lambda: container.run(*check).returncode == 0, f"{name} is well")

    def _listens(self, name: str, port: int) -> bool:
        def reached() -> bool:
            with socket.socket() as tried:
                return tried.connect_ex((self.network.addresses[name], port)) == 0

        return self.network.inside(reached)

    def _mount(self, entry: str, found: Image) -> Mount:
        source, place, *options = entry.split(":")
        writable = "ro" not in options
        if not source.startswith("./"):
            volume = self.home / "volumes" / source
            if not volume.exists():  # a new volume is as the directory in the image
                volume.mkdir(parents=True)
                if place == found.owns:
                    os.chown(volume, *found.user)
                    volume.chmod(0o700)
            return Mount(volume, place, writable)
        if source not in self.changed:
            return Mount(ROOT / source, place, writable)
        file = self.home / "changed" / Path(source).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.changed[source])
        return Mount(file, place, writable)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait for it; what ends meanwhile is told with its log."""
        deadline = time.monotonic() + seconds
        while not condition():
            for name, container in self.running.items():
                assert container.process.running, f"{name} has ended\n{container.process.tail()}"
            logs = "\n".join(f"{name}: {one.process.tail(8)}" for name, one in self.running.items())
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{logs}"
            time.sleep(0.1)

    def ask(self, command: str) -> str:
        """Run a `docker compose exec SERVICE …` as the documentation has it, again until it ends well (on a
        busy machine what it asks may be too slow for it); what it printed."""
        words = shlex.split(command)
        assert words[:3] == ["docker", "compose", "exec"], command
        detached = words[3] == "--detach"
        service, *argv = words[3 + detached :]
        if detached:
            argv = ["sh", "-c", '"$@" >/dev/null 2>&1 &', "detached", *argv]
        deadline = time.monotonic() + 300
        while (done := self.running[service].run(*argv)).returncode:
            said = f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        return done.stdout

    def get(self, url: str, secret: str = "") -> Any:
        """What one of them answers, by its name, to who has a secret of the volume as token."""
        host = url.split("/")[2].partition(":")[0]
        at = url.replace(f"//{host}:", f"//{self.network.addresses[host]}:")
        token = (self.home / "volumes" / "secrets" / secret).read_text() if secret else ""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.network.inside(
            lambda: httpx2.get(at, headers=headers, timeout=120).raise_for_status().json()
        )
