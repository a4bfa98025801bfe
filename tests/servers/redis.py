"""A real Redis, without persistence."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tests.servers.directory import remove, temporary
from tests.servers.ports import free_port, listens
from tests.servers.process import Process, find


class Redis:
    """Redis (or Valkey) on 127.0.0.1; `process.stop()` and `process.start()` make it come back empty."""

    def __init__(self) -> None:
        program = find("redis-server", "valkey-server", hint="apt-get install redis-server")
        self.port = free_port()
        self.directory = temporary("redis")
        self.process = Process(
            [program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", str(self.directory)],
            log=self.directory / "redis.log",
            ready=lambda: listens(self.port),
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self.process.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        self.process.stop()
        remove(self.directory)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
