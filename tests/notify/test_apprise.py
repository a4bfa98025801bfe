"""Apprise against a real HTTP server, a dead port, a slow server and a wrong URL."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from remediator.errors import NotificationError
from remediator.model import Message, RunId, Severity
from remediator.notify.apprise import AppriseNotifier

MESSAGE = Message(
    chain="on-call",
    severity=Severity.P1,
    subject="[P1] pool-above-80 on postgres:orders: refused",
    body="Seen: 87%\nWanted: < 80%",
    run=RunId(12),
)


class Hook:
    """A web server that keeps what it is sent and answers as told."""

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.bodies: list[dict[str, object]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(hook.delay)
                hook.bodies.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


async def test_delivers_title_body_and_command(hook: Hook) -> None:
    await AppriseNotifier("primary", f"json://127.0.0.1:{hook.port}/hook").send(MESSAGE)
    (body,) = hook.bodies
    assert body["title"] == "[P1] pool-above-80 on postgres:orders: refused"
    assert "Seen: 87%" in str(body["message"])
    assert "remediator runs show 12" in str(body["message"])
    assert body["type"] == "failure"


async def test_dead_port_says_which_notifier_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"json://alice:hunter2hunter2@127.0.0.1:{held.getsockname()[1]}/path-of-secrets"
        notifier = AppriseNotifier("primary", url)
        with caplog.at_level(logging.DEBUG), pytest.raises(NotificationError) as raised:
            await notifier.send(MESSAGE)
    for said in (str(raised.value), repr(notifier), caplog.text):
        assert "hunter2" not in said
        assert "path-of-secrets" not in said
    assert "notifier primary: not delivered" in str(raised.value)


async def test_refusal_of_the_service_is_told(hook: Hook) -> None:
    hook.status = 403
    with pytest.raises(NotificationError, match=r"notifier primary: not delivered: .*403"):
        await AppriseNotifier("primary", f"json://127.0.0.1:{hook.port}/hook").send(MESSAGE)


async def test_a_service_that_hangs_is_left_after_the_timeout(hook: Hook) -> None:
    hook.delay = 1.0
    began = time.monotonic()
    with pytest.raises(NotificationError, match=r"notifier primary: (no answer within|not delivered)"):
        await AppriseNotifier("primary", f"json://127.0.0.1:{hook.port}/hook", timeout=0.2).send(MESSAGE)
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize(
    "rest", ["very-secret-token", "tok/very-secret-token", "al:pw9@host/x", "t%6Fk/very-secret"]
)
async def test_unknown_scheme_is_named_without_the_rest(rest: str) -> None:
    with pytest.raises(NotificationError) as raised:
        await AppriseNotifier("primary", f"pagr://{rest}").send(MESSAGE)
    assert "pagr://***" in str(raised.value)
    for word in ("very-secret", "tok/", "t%6Fk", "pw9"):
        assert word not in str(raised.value)
