"""A small HTTP server whose answers can go wrong; the base of the fakes that speak HTTP."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.faults import Call, Fault, Faults


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    type: str = "application/json"


class FakeHttp:
    """Serves on a free port of 127.0.0.1. A subclass says what a request does and how an error looks."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.meanwhile: Callable[[Request], None] | None = None
        """What somebody else does right before a request is carried out."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):  # the client has gone; ValueError: the file is closed
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                request = Request(self.command, self.path, dict(self.headers), body)
                answer = fake._served(request)
                if answer is None:
                    self.close_connection = True
                    # l_onoff, l_linger 0: closing sends RST instead of FIN
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                del request, client_address

        self._server = Server(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def secure(self, certificate: Path) -> None:
        """Speak TLS from now on, with the certificate and key of this file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https"

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def calls(self) -> list[Call]:
        return self.faults.calls

    def name(self, request: Request) -> str:
        """What a call is called in `calls` and in faults."""
        return f"{request.method} {request.path}"

    def respond(self, request: Request) -> Answer:
        """Carry the request out."""
        raise NotImplementedError

    def failure(self, request: Request, status: int, text: str) -> Answer:
        """An error in the provider's own form."""
        raise NotImplementedError

    def _served(self, request: Request) -> Answer | None:
        fault = self.faults.arrived(self.name(request), request)
        if self.meanwhile is not None:
            self.meanwhile(request)
        return self.respond(request) if fault is None else self._wrong(fault, request)

    def _wrong(self, fault: Fault, request: Request) -> Answer | None:
        if fault.applies and fault.late:
            self.faults.later(fault.late, lambda: self.respond(request))
        elif fault.applies:
            self.respond(request)
        if fault.answer == "hang":
            self.faults.hang()
        if isinstance(fault.answer, str):
            return None
        return self.failure(request, fault.answer, fault.text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self.faults.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
