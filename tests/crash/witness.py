"""The provider that the campaign's actions talk to: it misbehaves as providers do, and keeps a record.

Every call takes effect once for each time it arrives (so a call that is issued twice is applied twice),
unless its kind deduplicates. It may take effect late, without an answer, or not at all; by what luck is
decided by the seed, the call's token and how often that token has arrived. The record is a file, written
line by line before anything is answered: the judge reads that file and nothing else of this process.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

LANDING = 1.5
"""Seconds after which no call takes effect any more. The actions declare a little more."""
HANGS = 5.0
"""Seconds until a hanging call is answered: longer than the daemon of the campaign waits."""
TOKEN_VALID = 600.0
"""Seconds for which a token is remembered."""

FAULTS = {"plain": 62, "slow": 12, "late": 6, "silent": 6, "lost": 5, "hangs": 3, "busy": 6}
"""How often, in a hundred calls: answered; answered after up to 1.2 s; cut off and in effect later; in effect
and cut off; cut off and lost; in effect and answered too late; refused with 503, which is not applied."""


@dataclass
class Thing:
    """One target: its size, and a version that every effect raises."""

    size: int = 1
    version: int = 1
    changed_at: float = 0.0


class Witness:
    """The provider, in threads of the process that watches.

    Args:
        record: the file of what happened.
        seed: decides the faults.
        faults: name → weight; `{"plain": 1}` behaves.
        script: target → the faults of its calls, in order, before luck has a say.
    """

    def __init__(
        self,
        record: Path,
        seed: int = 0,
        faults: dict[str, int] | None = None,
        script: dict[str, list[str]] | None = None,
    ) -> None:
        self.record = record
        self.seed = seed
        self.faults = FAULTS if faults is None else faults
        self.script = script or {}
        self.things: dict[str, Thing] = {}
        self.tokens: dict[str, float] = {}
        self.arrivals: dict[str, int] = {}
        self.in_flight: dict[str, int] = {}
        """token → the process that waits for an answer"""
        self.gate = threading.Event()
        """while cleared, calls whose fault is `gated` neither take effect nor are answered"""
        self.gate.set()
        self._number = 0
        self._lock = threading.Lock()
        self._file = record.open("a", buffering=1)
        self._server = _server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    # ------------------------------------------------------------ what the actions see

    def look(self, name: str) -> dict[str, Any]:
        with self._lock:
            thing = self.things.setdefault(name, Thing())
            return {
                "size": thing.size,
                "version": thing.version,
                "busy": time.time() - thing.changed_at < 0.2,
                "healthy": thing.size > 1 and not name.startswith("bad"),
            }

    def call(self, call: dict[str, Any], answer: Callable[[int, dict[str, Any]], None]) -> None:
        """One change. Not calling `answer` cuts the connection."""
        token, kind, name = call["token"], call["kind"], call["name"]
        with self._lock:
            self._number += 1
            number = self._number
            arrival = self.arrivals[token] = self.arrivals.get(token, 0) + 1
            luck = random.Random(f"{self.seed}:{name}:{call['by']}:{arrival}:{token}")
            fault = luck.choices(list(self.faults), list(self.faults.values()))[0]
            if self.script.get(name):
                fault = self.script[name].pop(0)
            known = kind == "token" and time.time() - self.tokens.get(token, 0.0) < TOKEN_VALID
            if fault not in ("busy", "lost") and not known:
                self.tokens[token] = time.time()
            self.in_flight[token] = call["pid"]
            self._write("arrived", number, call, fault=fault, duplicate=known)
        try:
            if known:
                answer(200, {"duplicate": True})
            elif fault == "busy":
                self._note("refused", number, call, why="busy")
                answer(503, {})
            elif fault == "lost":
                self._note("lost", number, call)
            elif fault == "late":
                delay = luck.uniform(0.3, LANDING)
                threading.Timer(delay, self._land, (number, call)).start()
            else:
                self._answered(number, call, fault, luck, answer)
        finally:
            with self._lock:
                self.in_flight.pop(token, None)

    def _answered(
        self,
        number: int,
        call: dict[str, Any],
        fault: str,
        luck: random.Random,
        answer: Callable[[int, dict[str, Any]], None],
    ) -> None:
        if fault == "gated":
            self.gate.wait(120)
        else:
            time.sleep(luck.uniform(0.3, 1.2) if fault == "slow" else luck.uniform(0.02, 0.15))
        applied = self._land(number, call)
        if fault == "silent":
            return
        if fault == "hangs":
            time.sleep(HANGS)
        answer(200 if applied else 412, {"applied": applied})

    def _land(self, number: int, call: dict[str, Any]) -> bool:
        """Take effect, unless the call names a version that has passed."""
        with self._lock:
            thing = self.things.setdefault(call["name"], Thing())
            if call.get("version") is not None and call["version"] != thing.version:
                self._write("refused", number, call, why="version")
                return False
            thing.size += call["by"]
            thing.version += 1
            thing.changed_at = time.time()
            self._write("landed", number, call, size=thing.size)
            return True

    # ------------------------------------------------------------ the record

    def _note(self, what: str, number: int, call: dict[str, Any], **more: Any) -> None:
        with self._lock:
            self._write(what, number, call, **more)

    def _write(self, what: str, number: int, call: dict[str, Any], **more: Any) -> None:
        line = {"what": what, "at": time.time() * 1000, "number": number, **call, **more}
        self._file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """The record so far."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="witness").start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._file.close()


def _server(witness: Witness) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            return

        def do_GET(self) -> None:
            self._send(200, witness.look(urlsplit(self.path).path.strip("/")))

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answered = False
            witness.call(call, self._send)
            if not self.answered:
                self.close_connection = True

        def _send(self, status: int, body: dict[str, Any]) -> None:
            self.answered = True
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            return  # clients are killed in the middle of calls: that is the point

    return Server(("127.0.0.1", 0), Handler)
