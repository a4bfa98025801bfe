"""A provider that records: an HTTP server with sizes, and the action that talks to it.

It lives in the test's process, so it survives the daemons that are killed, and is the witness of
what they did.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class Provider:
    """The witness.

    Args:
        slow: seconds that each change takes, before it takes effect.
    """

    def __init__(self, slow: float = 0.0) -> None:
        self.slow = slow
        self.sizes: dict[str, int] = {}
        self.calls: list[dict[str, Any]] = []
        self.under_way: dict[str, int] = {}
        self.collisions: list[str] = []
        self.lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                return

            def do_GET(self) -> None:
                name = urlsplit(self.path).path.strip("/")
                self._answer({"size": provider.sizes.get(name, 1)})

            def do_POST(self) -> None:
                call = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.change(call)
                self._answer({"size": call["after"]})

            def _answer(self, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                return  # clients are killed in the middle of calls: that is the point

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def change(self, call: dict[str, Any]) -> None:
        name = call["name"]
        with self.lock:
            self.calls.append(call)
            if self.under_way.get(name, 0):
                self.collisions.append(name)
            self.under_way[name] = self.under_way.get(name, 0) + 1
        time.sleep(self.slow)
        with self.lock:
            self.sizes[name] = call["after"]
            self.under_way[name] -= 1

    def twice(self) -> list[str]:
        """Tokens that were issued more than once."""
        tokens = [call["token"] for call in self.calls]
        return sorted({token for token in tokens if tokens.count(token) > 1})

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
