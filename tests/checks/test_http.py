"""Whether a real service answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr, ValidationError

from remediator.checks.http import Health, HealthParams
from remediator.clients.connections import CallContext, Connections
from remediator.errors import Temporary
from remediator.model import Instant, Reading
from remediator.settings import Basic, HttpConnection
from tests.servers.ports import free_port

CHECK = Health()


class Service(BaseHTTPRequestHandler):
    """Answers as the path asks, and remembers what it was sent."""

    seen: ClassVar[list[tuple[str, str, str | None]]] = []
    release = threading.Event()

    def do_GET(self) -> None:
        self.seen.append((self.command, self.path, self.headers.get("Authorization")))
        path = self.path.removeprefix("/base")
        if path == "/never":
            self.release.wait(10)
            return
        if path == "/cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = int(path.rpartition("/")[2] or 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[int]:
    Service.seen.clear()
    Service.release.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    Service.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def read(url: str, settings: dict[str, Any] | None = None, **params: Any) -> Reading:
    made = Connections({"shop": HttpConnection(url=url, **(settings or {}))})
    try:
        return CHECK.read(
            CallContext(made, Instant(9)), HealthParams.model_validate({"connection": "shop"} | params)
        )
    finally:
        made.close()


def value(reading: Reading) -> float:
    (sample,) = reading.samples
    assert sample.at == 9
    return sample.value


@pytest.mark.parametrize(
    ("path", "status", "healthy"),
    [
        ("/200", "200-299", 1), ("/204", "200-299", 1), ("/500", "200-299", 0), ("/404", "200-299", 0),
        ("/404", "404", 1), ("/200", "404", 0), ("/302", "200-299", 0), ("/302", "200-399", 1),
    ],
)  # fmt: skip
def test_a_status_in_the_range_is_healthy(service: int, path: str, status: str, healthy: int) -> None:
    reading = read(f"http://127.0.0.1:{service}", path=path, status=status)
    assert value(reading) == healthy
    assert reading.note == f"status {path[1:]}"
    assert len(Service.seen) == 1  # a redirect is not followed


def test_the_path_is_added_to_the_address_and_credentials_are_sent(service: int) -> None:
    basic = Basic(username="ada", password=SecretStr("pw"))
    read(f"http://127.0.0.1:{service}/base/", {"basic": basic}, path="/ok/200")
    read(f"http://127.0.0.1:{service}/base", {"bearer": SecretStr("t0ken")}, path="/ok/200")
    assert Service.seen == [
        ("GET", "/base/ok/200", "Basic YWRhOnB3"),
        ("GET", "/base/ok/200", "Bearer t0ken"),
    ]


def test_a_refused_connection_is_not_healthy() -> None:
    reading = read(f"http://127.0.0.1:{free_port()}")
    assert value(reading) == 0
    assert reading.note == "connection refused"


def test_no_answer_in_time_and_a_cut_line_are_not_healthy(service: int) -> None:
    late = read(f"http://127.0.0.1:{service}", path="/never", timeout="200ms")
    assert value(late) == 0
    assert late.note == "connected, but no answer within 0.2s"
    cut = read(f"http://127.0.0.1:{service}", path="/cut")
    assert value(cut) == 0
    assert "broke off" in cut.note


def test_what_may_be_our_own_side_is_no_answer(service: int) -> None:
    with pytest.raises(Temporary, match="http:shop: /"):
        read("http://no-such-host.invalid")
    with pytest.raises(Temporary, match="http:shop: /"):  # TLS to a server that has none
        read(f"https://127.0.0.1:{service}")


def test_a_secret_that_cannot_be_sent_is_not_repeated(service: int) -> None:
    with pytest.raises(Temporary, match="line breaks") as raised:
        read(f"http://127.0.0.1:{service}", {"bearer": SecretStr("hunter2\n")})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    [
        "healthz",
        "//evil.example/",
        "/../admin",
        "/a/../b",
        "/a?b=c",
        "/a#b",
        "/a%2e%2e/",
        "/@evil",
        "/a b",
        "",
    ],
)
def test_a_path_cannot_leave_the_service(path: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        HealthParams(connection="shop", path=path)


@pytest.mark.parametrize(
    "params",
    [{"status": "600"}, {"status": "2xx"}, {"timeout": "11s"}, {"timeout": "50ms"}, {"method": "POST"}],
)
def test_bounds_are_in_the_type(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HealthParams.model_validate({"connection": "shop"} | params)
