"""AWS by moto's server, asked over HTTP by the real SDK."""

from __future__ import annotations

import sys

from tests.servers.directory import temporary
from tests.servers.ports import free_port
from tests.servers.process import Process, Served
from tests.servers.web import answers, post

ACCOUNT = "123456789012"
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


class Moto(Served):
    """A moto server on 127.0.0.1. Its account is `ACCOUNT`; any credentials do."""

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = temporary("moto")
        self.process = Process(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            log=self.directory / "moto.log",
            ready=lambda: answers(f"{self.url}/moto-api/data.json"),
            timeout=60,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget everything, for the next test."""
        post(f"{self.url}/moto-api/reset", b"")
