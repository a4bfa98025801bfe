"""A webhook that arrives in one piece is taken without a task; one that comes in two is answered the same."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import pytest

from remediator.contracts import Claimant, Delivery, Match, Receipt
from tests.web.served import Running, alert, body, serving

AM = "Authorization: Bearer am-token-for-tests"
WAYS = pytest.mark.parametrize("parts", [1, 2])


@dataclass(frozen=True)
class Answer:
    """What came back; `headers` without the date."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool


class Line:
    """A connection by hand, so that it is known what goes into one segment."""

    def __init__(self, running: Running) -> None:
        self._socket = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *headers: str, content: bytes, parts: int, path: str = "am", version: str = "1.1") -> None:
        lines = [f"POST /webhooks/{path} HTTP/{version}", "Host: x", *headers]
        head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode()
        if parts == 1:
            self._socket.sendall(head + content)
            return
        self._socket.sendall(head)
        time.sleep(0.05)  # so that they are read apart, nearly always; the answer is the same if not
        self._socket.sendall(content)

    def answer(self) -> Answer:
        response = HTTPResponse(self._socket)
        response.begin()
        content = response.read()
        headers = {name.lower(): value for name, value in response.getheaders() if name.lower() != "date"}
        return Answer(response.status, headers, content, closed=headers.get("connection") == "close")

    def piped(self, requests: bytes, before: bytes, count: int) -> bytes:
        """The character behind each `before` of so many answers."""
        self._socket.sendall(requests)
        got = b""
        while got.count(before) < count or not got.endswith(b"}"):
            part = self._socket.recv(65_536)
            assert part
            got += part
        return b"".join(part[:1] for part in got.split(before)[1:])

    def ended(self) -> bool:
        """Waits for the other side to hang up."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True


def ask(running: Running, *headers: str, content: bytes, parts: int, **more: Any) -> Answer:
    with Line(running) as line:
        line.send(*headers, content=content, parts=parts, **more)
        found = line.answer()
        assert not found.closed or line.ended()
        return found


@pytest.mark.parametrize(
    ("status", "closes", "headers", "content", "path"),
    [
        (200, False, (AM,), body(), "am"),
        (200, False, (AM,), body(alert("bad", status="odd")), "am"),
        (200, True, (AM, "Connection: close"), body(), "am"),
        (400, False, (AM,), b"{not json at all", "am"),
        (401, True, ("Authorization: Bearer wrong",), body(), "am"),
        (401, True, (), b"{not json at all", "am"),
        (403, True, ("Origin: https://evil.example",), b"{}", "gcp"),
        (404, True, (AM,), body(), "nobody"),
        (413, True, (AM,), body().ljust(65_537), "am"),
        (415, True, (AM, "Content-Encoding: gzip"), body(), "am"),
    ],
)
def test_the_answer_is_the_same_in_one_piece_and_in_two(
    local: Running, status: int, closes: bool, headers: tuple[str, ...], content: bytes, path: str
) -> None:
    one, two = (ask(local, *headers, content=content, path=path, parts=parts) for parts in (1, 2))
    assert (one.status, one.closed) == (status, closes)
    assert one == two


@WAYS
def test_an_alert_is_committed_before_the_answer(fresh: Running, parts: int) -> None:
    answer = ask(fresh, AM, content=body(alert("one"), alert("two", "Other")), parts=parts)
    assert (answer.status, b'"accepted":2' in answer.body) == (200, True)
    with sqlite3.connect(f"file:{fresh.daemon.settings.store.path}?mode=ro", uri=True) as database:
        assert database.execute("select count(*) from alert").fetchone() == (2,)
        assert database.execute("select count(*) from run").fetchone() == (1,)
    again = ask(fresh, AM, content=b"{", parts=parts)
    assert again.status == 400
    assert len(fresh.events("alert.rejected")) == 1


@WAYS
def test_a_connection_serves_one_request_after_another(local: Running, parts: int) -> None:
    with Line(local) as line:
        for number in range(20):
            line.send(AM, content=body(alert(f"row-{parts}-{number}", "Other")), parts=parts)
            assert b'"accepted":1' in line.answer().body
        line.send(AM, content=body(), parts=parts, version="1.0")
        assert line.answer().closed
        assert line.ended()


def test_what_comes_in_one_piece_is_answered_in_order(local: Running) -> None:
    """Hundreds of requests that are answered at once: none begins within the end of the one before."""
    head = f"POST /webhooks/am HTTP/1.1\r\nHost: x\r\n{AM}\r\nContent-Length: "
    bodies = body(), body(truncatedAlerts=1)
    pair = b"".join(f"{head}{len(one)}\r\n\r\n".encode() + one for one in bodies)
    with Line(local) as line:
        assert line.piped(pair * 100, b'"truncated":', 200) == b"01" * 100


@WAYS
def test_each_body_counts_once_against_the_limit(fresh: Running, parts: int) -> None:
    few = "Authorization: Bearer few-token-for-tests"
    for content in (body(), b"{", body()):
        assert ask(fresh, few, content=content, path="few", parts=parts).status in (200, 400)
    refused = ask(fresh, few, content=body(), path="few", parts=parts)
    assert (refused.status, refused.closed) == (503, True)
    assert int(refused.headers["retry-after"]) > 0


# ---------------------------------------------------------------- the store is away, or worse


@WAYS
def test_a_store_that_is_closed_is_503_and_worth_a_retry(fresh: Running, parts: int) -> None:
    fresh.run(fresh.daemon.store.close())
    answer = ask(fresh, AM, content=body(alert("late")), parts=parts)
    assert (answer.status, b"send it again" in answer.body) == (503, True)
    fresh.run(fresh.daemon.store.open())
    assert ask(fresh, AM, content=body(alert("late")), parts=parts).status == 200


class Odd:
    """The store, whose promises are ours.

    Args:
        fault: what becomes of each at once; None: nothing, until the test says so.
    """

    def __init__(self, store: Any, fault: Exception | None = None) -> None:
        self._store = store
        self._fault = fault
        self.promised: list[asyncio.Future[Receipt]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> asyncio.Future[Receipt]:
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[Receipt] = loop.create_future()
        if self._fault is not None:
            loop.call_soon(promise.set_exception, self._fault)
        self.promised.append(promise)
        return promise

    def wait(self) -> None:
        """Until a delivery is under way."""
        while not self.promised:
            time.sleep(0.01)

    def keep(self) -> None:
        """The delivery is committed, if it was not given up yet. In the loop's thread."""
        if not self.promised[0].done():
            self.promised[0].set_result(Receipt(accepted=1))


@WAYS
def test_a_store_that_never_answers_is_503_in_time(fresh: Running, parts: int) -> None:
    fresh.daemon.store = odd = Odd(fresh.daemon.store)  # type: ignore[assignment]
    answer = ask(fresh, AM, content=body(alert("hangs")), parts=parts)
    assert (answer.status, b"did not answer within 1 s" in answer.body) == (503, True)
    assert odd.promised[0].cancelled()


@WAYS
def test_a_fault_of_the_daemon_is_500_and_ends_the_connection(fresh: Running, parts: int) -> None:
    fresh.daemon.store = Odd(fresh.daemon.store, ValueError("a fault"))  # type: ignore[assignment]
    answer = ask(fresh, AM, content=body(alert("spoilt")), parts=parts)
    assert (answer.status, answer.closed) == (500, True)


@WAYS
def test_who_left_is_not_waited_for(fresh: Running, parts: int) -> None:
    store = fresh.daemon.store
    fresh.daemon.store = odd = Odd(store)  # type: ignore[assignment]
    with Line(fresh) as line:
        line.send(AM, content=body(alert("left")), parts=parts)
        odd.wait()
    fresh.loop.call_soon_threadsafe(odd.keep)
    fresh.daemon.store = store
    assert ask(fresh, AM, content=body(alert("next")), parts=parts).status == 200


@WAYS
def test_what_is_under_way_is_answered_when_the_daemon_stops(tmp_path: Any, parts: int) -> None:
    with serving(tmp_path) as running:
        store = running.daemon.store
        running.daemon.store = odd = Odd(store)  # type: ignore[assignment]
        line = Line(running)
        line.send(AM, content=body(alert("last")), parts=parts)
        odd.wait()
        running.daemon.store = store
        running.loop.call_soon_threadsafe(running.loop.call_later, 0.3, odd.keep)
    with line:
        answer = line.answer()
    assert answer.closed
    assert answer.status in (200, 503)  # 503 where 0.3 s became a second: it is told to send it again
