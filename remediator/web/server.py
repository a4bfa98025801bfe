"""The uvicorn server, set up for this daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from remediator.model import SECOND
from remediator.settings import Server

MAX_HEAD = 65_536
"""Bytes of request line and headers; uvicorn itself sets no bound here."""


def http_protocol(within: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with a deadline and a size limit for a request's head.

    Args:
        within: seconds that a new connection, or a begun request, may take to send its head.
    """

    class Protocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _head = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(within, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._head += len(data)
            super().data_received(data)
            if self._timer is not None and self._head > MAX_HEAD and not self.transport.is_closing():
                self._stop()
                self.send_400_response("The request's head is too long.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._timer is None:
                self._head = 0
                self._timer = self.loop.call_later(within, self._too_slow)

        def on_headers_complete(self) -> None:
            self._stop()
            super().on_headers_complete()

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self) -> None:
            self._timer = None
            self.transport.close()

    return Protocol


def server(app: Any, settings: Server) -> uvicorn.Server:
    """A server that is ready to `serve()`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=http_protocol(settings.request_timeout / SECOND),
            loop="auto",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout / SECOND)),
            backlog=2048,
        )
    )
