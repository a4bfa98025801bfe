"""The load generator: POSTs Alertmanager bodies over keep-alive HTTP/1.1 and prints one JSON object.

    python -m bench.load http://127.0.0.1:8080/webhooks/am --alerts 10 --total 100000

Closed loop (--connections busy loops) by default, open loop with --rate bodies per second. With --actions it
waits for the actions of the accepted matching alerts, and reports latency, lost and doubled ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.payload import Payloads, now_text


class Client(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None
        self.closed = False
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport  # uvloop's, which is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = re.search(rb"content-length: *(\d+)", head)
        if length is None:
            self._fail("an answer without Content-Length")
            return
        if len(self._buffer) - end - 4 < int(length[1]):
            return
        status = int(self._buffer[9:12])
        self._buffer = b""
        self.closed = b"connection: close" in head
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(status)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the connection was closed")

    def _fail(self, why: str) -> None:
        self.closed = True
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError(why))


@dataclass
class Result:
    """What happened."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    connection_errors: int = 0
    accepted: set[str] = field(default_factory=set)


class Load:
    """Drives one server."""

    def __init__(self, options: argparse.Namespace, payloads: Payloads) -> None:
        url = urlsplit(options.url)
        self.host, self.port = url.hostname, url.port
        self.options = options
        self.payloads = payloads
        self.result = Result()
        self.left = -(-options.total // options.alerts) if options.total else 1 << 60
        headers = "".join(f"{header}\r\n" for header in options.header)
        self.head = (
            f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
            f"User-Agent: Alertmanager/0.27\r\n{headers}Content-Length: "
        ).encode()

    async def connect(self) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, self.host, self.port)
        return client

    async def request(self, client: Client) -> None:
        body, matching = self.payloads.make()
        client.answer = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        client.transport.write(b"%s%d\r\n\r\n%s" % (self.head, len(body), body))
        try:
            status = await client.answer
        except ConnectionError:
            self.result.connection_errors += 1
            client.transport.close()
            return
        self.result.statuses[status] += 1
        if 200 <= status < 300:
            self.result.latencies.append(time.perf_counter() - begun)
            self.result.accepted.update(matching)

    async def closed_loop(self) -> None:
        end = time.perf_counter() + self.options.duration

        async def worker() -> None:
            client = await self.connect()
            while time.perf_counter() < end and self.left > 0:
                if client.closed:
                    client = await self.connect()
                self.left -= 1
                await self.request(client)
            client.transport.close()

        await asyncio.gather(*(worker() for _ in range(self.options.connections)))

    async def open_loop(self) -> None:
        idle: list[Client] = []
        shots: set[asyncio.Task[None]] = set()

        async def shot() -> None:
            client = idle.pop() if idle else await self.connect()
            if client.closed:
                client = await self.connect()
            await self.request(client)
            idle.append(client)

        due = time.perf_counter()
        end = due + self.options.duration
        while due < end and self.left > 0:
            self.left -= 1
            shots.add(asyncio.create_task(shot()))
            due += 1 / self.options.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*shots)

    def run(self) -> dict[str, Any]:
        """Drive it, and report."""
        begun = time.perf_counter()
        uvloop.run(self.open_loop() if self.options.rate else self.closed_loop())
        seconds = time.perf_counter() - begun
        latencies = sorted(self.result.latencies)
        alerts = len(latencies) * self.options.alerts
        report: dict[str, Any] = {
            "seconds": round(seconds, 3),
            "alerts": alerts,
            "alerts_s": round(alerts / seconds, 1),
            "p50_ms": percentile(latencies, 0.50),
            "p99_ms": percentile(latencies, 0.99),
            "statuses": self.result.statuses,
            "connection_errors": self.result.connection_errors,
            "accepted_matching": len(self.result.accepted),
        }
        if self.options.actions:
            report |= self._actions(Path(self.options.actions))
        return report

    def _actions(self, file: Path) -> dict[str, Any]:
        deadline = time.monotonic() + self.options.settle
        while True:
            seen = read_actions(file)
            if self.result.accepted <= seen.keys() or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        mine = {bench_id: seen[bench_id] for bench_id in self.result.accepted if bench_id in seen}
        latencies = sorted(times[0] for times in mine.values())
        return {
            "actions": len(mine),
            "lost": len(self.result.accepted) - len(mine),
            "twice": sum(len(times) > 1 for times in mine.values()),
            "action_p50_ms": percentile(latencies, 0.50),
            "action_p99_ms": percentile(latencies, 0.99),
        }


def percentile(ordered: list[float], part: float) -> float | None:
    """In milliseconds."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 3)


def read_actions(file: Path) -> dict[str, list[float]]:
    """bench_id → seconds from sending to acting, of a file with lines `<bench_id> <sent_ns> <acted_ns>`."""
    found: dict[str, list[float]] = defaultdict(list)
    if file.exists():
        for line in file.read_text().splitlines():
            bench_id, sent, acted = line.split()
            found[bench_id].append((int(acted) - int(sent)) / 1e9)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--alerts", type=int, default=1, help="in one body")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--duration", type=float, default=60, help="seconds at most")
    parser.add_argument("--total", type=int, default=0, help="stop after so many alerts")
    parser.add_argument("--rate", type=float, default=0, help="open loop: bodies per second")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("--match-every", type=int, default=100, help="one alert in so many matches (0: none)")
    parser.add_argument("--starts-at", default=None, help="RFC 3339; now, if left out")
    parser.add_argument("--run", default=None, help="tag, six hexadecimal digits; random if left out")
    parser.add_argument("--repeatable", action="store_true", help="the same tag makes the same bytes again")
    parser.add_argument(
        "--actions", help="file to which the actions append `<bench_id> <sent_ns> <acted_ns>`"
    )
    parser.add_argument("--settle", type=float, default=5, help="seconds to wait for the last actions")
    options = parser.parse_args()
    payloads = Payloads(
        options.alerts,
        options.run or os.urandom(3).hex(),
        match_every=options.match_every,
        starts_at=options.starts_at or now_text(),
        repeatable=options.repeatable,
    )
    print(json.dumps(Load(options, payloads).run()))


if __name__ == "__main__":
    main()
