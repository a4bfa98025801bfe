"""The stream of changes: who may look on, what comes, and what becomes of clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil

from remediator.live.hub import CLIENTS, Hub, Kind
from remediator.web.live import told
from tests.web.served import Running, alert, body, serving
from tests.web.test_api import AM, problem

LIVE = "/api/v1/live"


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """(event, data) of a stream; a comment is an event without a name."""
    name, data = "", ""
    for line in lines:
        key, _, value = line.partition(": ")
        if line.startswith(":"):
            yield "", line[1:].strip()
        elif key == "event":
            name = value
        elif key == "data":
            data = value
        elif not line and name:
            yield name, json.loads(data)
            name = data = ""


def opened(client: httpx2.Client) -> Any:
    return client.stream("GET", LIVE, timeout=httpx2.Timeout(20))


def test_runs_and_controls_are_told_as_they_change(guarded: Running) -> None:
    with (
        guarded.client("viewer-token-for-tests") as looking,
        guarded.client("operator-token-for-tests") as acting,
    ):
        with opened(looking) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            told = events(stream.iter_lines())
            assert next(told) == ("", "connected")
            assert acting.post("/webhooks/am", content=body(alert("live")), headers=AM).status_code == 200
            name, data = next(told)
            (run,) = acting.get("/api/v1/runs", params={"limit": 1}).json()["items"]
            assert (name, data) == ("change", {"kind": "run", "id": run["id"]})
            acting.post("/api/v1/control/pause", json={"reason": "x", "scope": "target:postgres:other"})
            seen = next(one for one in told if one[1]["kind"] != "run")
            assert seen == ("change", {"kind": "control", "id": "pause:target:postgres:other"})
            acting.post("/api/v1/control/resume", json={"reason": "x", "scope": "target:postgres:other"})


async def test_a_silent_stream_beats() -> None:
    hub = Hub()
    looking = hub.join()
    assert looking is not None
    stream = told(looking, beat=0.02)
    assert [await anext(stream) for _ in range(3)] == [b": connected\n\n", *[b": still here\n\n"] * 2]
    hub.tell(Kind.RUN, 7)
    hub.tell(Kind.RUN, 7)
    assert await anext(stream) == b'event: change\ndata: {"kind":"run","id":7}\n\n'
    hub.close()
    assert await anext(stream) == b'event: over\ndata: {"why":"the daemon stops"}\n\n'
    assert hub.join() is None


def test_looking_on_needs_a_token(guarded: Running) -> None:
    with guarded.client() as client:
        problem(client.get(LIVE), 401)
        problem(client.get(LIVE, headers={"Authorization": "Bearer wrong"}), 401)
    with guarded.client("viewer-token-for-tests") as client:
        problem(client.get(LIVE, params={"kind": "run"}), 422)


def test_one_client_too_many_is_asked_to_come_back(local: Running) -> None:
    hub = local.daemon.hub

    async def crowd() -> list[Any]:
        return [hub.join() for _ in range(CLIENTS)]

    async def gone(crowd: list[Any]) -> None:
        for one in crowd:
            hub.leave(one)

    many = local.run(crowd())
    with local.client() as client:
        answer = client.get(LIVE)
        assert str(CLIENTS) in problem(answer, 503)
        assert answer.headers["retry-after"] == "5"
    local.run(gone(many))
    with local.client() as client, opened(client) as stream:
        assert stream.status_code == 200


def test_a_client_that_does_not_read_is_let_go_of(local: Running) -> None:
    hub = local.daemon.hub
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", local.port))
    deaf.sendall(f"GET {LIVE} HTTP/1.1\r\nHost: 127.0.0.1:{local.port}\r\n\r\n".encode())

    async def tell(first: int) -> bool:
        for number in range(first, first + 50):
            hub.tell(Kind.CONTROL, f"pause:target:{number:01000}")
        return hub.anyone.is_set()

    async def waiting() -> int:
        return sum(len(one._pending) for one in hub._subscriptions)

    async def joined() -> bool:
        return hub.anyone.is_set()

    end = time.monotonic() + 20
    while not local.run(joined()):
        assert time.monotonic() < end, "it never looked on"
        time.sleep(0.01)
    first, stuck = 0, False
    while local.run(tell(first)):
        assert time.monotonic() < end, f"still listening after {first} changes"
        first += 50
        patience = time.monotonic() + 1.0
        while local.run(waiting()) and time.monotonic() < patience:  # as fast as they are sent, no faster
            time.sleep(0.005)
        stuck = stuck or time.monotonic() >= patience
        if stuck:
            break
    assert stuck, "it could read all the same"
    while local.run(tell(first)):
        first += 50
    _, own = deaf.getsockname()
    end = time.monotonic() + 15

    def stands() -> bool:
        """Whether the server's side still has it; what the kernel goes on sending is not ours."""
        return any(one.raddr and one.raddr[1] == own for one in psutil.Process().net_connections("tcp"))

    while stands():
        assert time.monotonic() < end, "the connection still stands"
        time.sleep(0.05)
    deaf.close()


def test_stopping_ends_the_stream_and_says_why(tmp_path: Path) -> None:
    seen: list[Any] = []
    connected = threading.Event()

    def look(url: str) -> None:
        with httpx2.Client(base_url=url, timeout=20, trust_env=False) as client, opened(client) as stream:
            for event in events(stream.iter_lines()):
                seen.append(event)
                connected.set()

    with serving(tmp_path) as running:
        looking = threading.Thread(target=look, args=(running.url,))
        looking.start()
        assert connected.wait(10)
        running.loop.call_soon_threadsafe(running.daemon.rest)
        looking.join(10)
        assert not looking.is_alive()
    assert seen[-1] == ("over", {"why": "the daemon stops"})


def deaf(running: Running) -> socket.socket:
    """A client that asks for the stream and never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", running.port))
    client.sendall(f"GET {LIVE} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
    return client


def test_open_streams_do_not_keep_the_daemon_from_stopping(tmp_path: Path) -> None:
    """A hundred who look on, some of whom do not read: the server would wait for these as long as for any
    request, a minute here."""
    silent: list[socket.socket] = []
    try:
        with serving(tmp_path, server_more="shutdown_timeout: 60s") as running:
            hub = running.daemon.hub
            silent = [deaf(running) for _ in range(CLIENTS)]

            async def crowd(count: int) -> bool:
                return len(hub._subscriptions) == count

            def waiting() -> bool:
                return any(one._pending for one in hub._subscriptions)

            async def talk() -> None:
                """Until those who do not read have more waiting than fits in between."""
                full = asyncio.get_running_loop().time() + 20
                number = 0
                while not waiting():
                    assert asyncio.get_running_loop().time() < full, "they read all the same"
                    for _ in range(100):
                        number += 1
                        hub.tell(Kind.CONTROL, f"pause:target:{number:01000}")
                    for _ in range(50):
                        await asyncio.sleep(0.01)
                        if not waiting():
                            break

            end = time.monotonic() + 30
            while not running.run(crowd(CLIENTS)):
                assert time.monotonic() < end, "they never looked on"
                time.sleep(0.01)
            asyncio.run_coroutine_threadsafe(talk(), running.loop).result(30)
            running.loop.call_soon_threadsafe(running.daemon.rest)
            began = time.monotonic()
        assert time.monotonic() - began < 15  # which is also how long `serving` waits for it
    finally:
        for client in silent:
            client.close()
