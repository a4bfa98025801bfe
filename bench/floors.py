"""The physical limits: tiny ASGI applications that do only what cannot be left out.

    FLOOR_MODE=sq_group_idx FLOOR_DB=floor.db uvicorn bench.floors:app

`bare` reads the body; `msgspec` decodes it and looks each alert's name up; `sq_group_idx` also commits one
row per alert, unique by fingerprint, in SQLite with fsync, many requests in one commit, before it answers.
`pg_group` does so on PostgreSQL, by COPY, without the uniqueness.
After that it acts: it writes a line to the file FLOOR_ACTIONS for each alert whose name matches.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import sqlite3
import threading
import time
from typing import Any

import msgspec

MODE = os.environ.get("FLOOR_MODE", "sq_group_idx")
FILE = os.environ.get("FLOOR_DB", "floor.db")
URL = os.environ.get("FLOOR_URL", "")
"""Of a PostgreSQL database with the table `ev`."""
ACTIONS = os.environ.get("FLOOR_ACTIONS", os.devnull)
RULES = {f"Rule{number}" for number in range(9)} | {"BenchRemediate"}
GROUP = 512
"""Requests in one commit, at most."""

Row = tuple[str, str, bytes]


class Alert(msgspec.Struct):
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: str
    endsAt: str
    generatorURL: str
    fingerprint: str


class Hook(msgspec.Struct):
    version: str
    status: str
    receiver: str
    groupKey: str
    alerts: list[Alert]
    groupLabels: dict[str, str]
    commonLabels: dict[str, str]
    commonAnnotations: dict[str, str]
    externalURL: str
    truncatedAlerts: int = 0


DECODER = msgspec.json.Decoder(Hook)
ENCODER = msgspec.json.Encoder()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"{}"}


class Writer:
    """One thread that commits whatever waits, all of it at once, without waiting for more."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[list[Row], asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, daemon=True).start()

    async def put(self, rows: list[Row]) -> None:
        """Returns when the rows are on the disk."""
        committed: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((rows, committed))
        await committed

    def _run(self) -> None:
        connection = sqlite3.connect(FILE, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE ev (id INTEGER PRIMARY KEY, fp TEXT, name TEXT, body BLOB)")
        connection.execute("CREATE UNIQUE INDEX evfp ON ev (fp)")
        while True:
            group = [self._waiting.get()]
            while len(group) < GROUP and not self._waiting.empty():
                group.append(self._waiting.get())
            connection.execute("BEGIN IMMEDIATE")
            for rows, _ in group:
                connection.executemany("INSERT OR IGNORE INTO ev (fp, name, body) VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_answer, [committed for _, committed in group])


class PostgresWriter(Writer):
    """The same on PostgreSQL, by COPY: of two such threads one writes while the other's commit syncs."""

    def _run(self) -> None:
        import psycopg

        with psycopg.connect(URL, autocommit=True) as connection:
            while True:
                group = [self._waiting.get()]
                while len(group) < GROUP and not self._waiting.empty():
                    group.append(self._waiting.get())
                with (
                    connection.cursor() as cursor,
                    cursor.copy("COPY ev (fp, name, body) FROM STDIN") as copy,
                ):
                    for rows, _ in group:
                        for row in rows:
                            copy.write_row(row)
                self._loop.call_soon_threadsafe(_answer, [committed for _, committed in group])


def _answer(committed: list[asyncio.Future[None]]) -> None:
    for one in committed:
        if not one.done():
            one.set_result(None)


def act(alert: Alert) -> None:
    line = f"{alert.labels['bench_id']} {alert.annotations['sent_ns']} {time.time_ns()}\n"
    os.write(_actions, line.encode())


_actions = os.open(ACTIONS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_writer: Writer | None = None
_others: list[PostgresWriter] = []
_turns = itertools.count()


async def app(scope: Any, receive: Any, send: Any) -> None:
    global _writer
    if scope["type"] != "http":
        raise RuntimeError("run with --lifespan off")
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    if MODE != "bare" and body:
        alerts = DECODER.decode(body).alerts
        matching = [alert for alert in alerts if alert.labels["alertname"] in RULES]
        if MODE == "sq_group_idx":
            _writer = _writer or Writer()
            rows = [(one.fingerprint, one.labels["alertname"], ENCODER.encode(one)) for one in alerts]
            await _writer.put(rows)
        elif MODE == "pg_group":
            if not _others:
                _others.extend((PostgresWriter(), PostgresWriter()))
            rows = [(one.fingerprint, one.labels["alertname"], ENCODER.encode(one)) for one in alerts]
            await _others[next(_turns) % 2].put(rows)
        for alert in matching:
            act(alert)
    await send(START)
    await send(BODY)
