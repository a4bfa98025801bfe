"""The uvicorn server, set up for this daemon."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from remediator.model import SECOND
from remediator.settings import Server
from remediator.web.app import App
from remediator.web.problem import CONTENT_TYPE, document
from remediator.web.reply import Reply
from remediator.web.webhooks import PREFIX, Webhooks

DEAF = 1.0
"""Seconds for which a client may read nothing of its answer while the server stops."""
MAX_HEAD = 65_536
"""Bytes of request line and headers; uvicorn itself sets no bound here."""


def http_protocol(within: float, webhooks: Webhooks) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with a deadline for a request to arrive, a bound on its head, and no patience
    with clients that do not read what they asked for. A webhook that arrives whole is taken without a task.

    One timer for each connection looks now and then, instead of one for each request: this is on
    the path of every webhook.

    Args:
        within: seconds that a request, or the first byte of a new connection, may take to arrive, and
            in which a client must read some of its answer.
        webhooks: takes what is under its prefix.
    """
    late = document(408, f"the request did not arrive within {within:g} s (server.request_timeout)")

    class Protocol(HttpToolsProtocol):
        _watch: asyncio.TimerHandle | None = None
        _since: float | None = None
        _in_head = True
        _head = 0
        _unread = 0
        _reading = False
        _begun: tuple[RequestResponseCycle, Any] | None = None
        """The request that began in what is being read, before it is known whether it is there whole."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._since = self.loop.time()
            self._watch = self.loop.call_later(within, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._watch is not None:
                self._watch.cancel()
            super().connection_lost(exc)

        def shutdown(self) -> None:
            """The server stops. Whoever does not read his answer keeps it waiting no longer than that
            takes to be seen: streams have been told that they are over."""
            super().shutdown()
            if self._watch is not None:
                self._watch.cancel()
            self._unread = self.transport.get_write_buffer_size()
            self._watch = self.loop.call_later(DEAF, self._part)

        def _part(self) -> None:
            if self._deaf():
                self.transport.abort()
                return
            if self._left() <= 0 and not self.transport.is_closing():
                self._refuse(408, late)
            # Else it reads, or what it asked for is still being made: both have until shutdown_timeout.
            self._watch = self.loop.call_later(DEAF, self._part)

        def data_received(self, data: bytes) -> None:
            self._reading = True
            super().data_received(data)
            self._reading = False
            if self._begun is not None:
                (cycle, app), self._begun = self._begun, None
                self._start(cycle, app)
            if self._in_head:
                self._head += len(data)
                if self._head > MAX_HEAD and not self.transport.is_closing():
                    self._refuse(431, document(431, f"the request's head exceeds {MAX_HEAD} bytes"))

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            # What waited behind another request of its connection is not being read now, and takes the usual
            # way: each would else begin within the end of the one before.
            if self._reading and cycle.scope["path"].startswith(PREFIX):
                self._begun = cycle, app
            else:
                super()._start_asgi_task(cycle, app)

        def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
            if (
                cycle.more_body
                or cycle.scope["method"] != "POST"
                or app is not self.app
                or self.flow.write_paused
                or self.transport.is_closing()
            ):
                super()._start_asgi_task(cycle, app)
                return
            reply = Reply(cycle)
            try:
                rest = webhooks.at_once(cycle.scope, bytes(cycle.body), reply)
            except Exception as error:  # noqa: BLE001 - as uvicorn does around an application
                reply.failed(error)
                return
            if rest is not None:
                task = self.loop.create_task(reply.after(rest))
                task.add_done_callback(self.tasks.discard)
                self.tasks.add(task)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._since = self.loop.time()
            self._in_head = True
            self._head = 0

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._since = None
            super().on_message_complete()

        def _look(self) -> None:
            if self._deaf():
                self.transport.abort()
                return
            left = self._left()
            if left > 0.001:
                self._watch = self.loop.call_later(left, self._look)
            elif not self.transport.is_closing():
                self._refuse(408, late)

        def _left(self) -> float:
            """Seconds that the request still has to arrive."""
            return within if self._since is None else self._since + within - self.loop.time()

        def _deaf(self) -> bool:
            """Whether the client has read nothing of its answer since the last look."""
            unread = self.transport.get_write_buffer_size()
            before, self._unread = self._unread, unread
            return bool(unread) and unread == before

        def _refuse(self, status: int, body: bytes) -> None:
            """Answer and hang up; the application, if it waits for the body, sees a disconnect."""
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                head = (
                    f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nconnection: close\r\n"
                    f"content-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
                )
                self.transport.write(head.encode() + body)
            self.transport.close()

    return Protocol


class _State(ServerState):
    """Dates each answer when it is made."""

    _second = 0
    _headers: list[tuple[bytes, bytes]] = []

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        now = int(time.time())
        if now != self._second:
            self._second, self._headers = now, [(b"date", formatdate(now, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """uvicorn begins with none."""


class _Server(uvicorn.Server):
    """uvicorn's, without its ten looks a second at the date and at whether to go: a daemon with nothing to
    do shall do nothing."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._leaving = asyncio.Event()
        super().__init__(config)
        self.server_state = _State()

    @property
    def should_exit(self) -> bool:
        return self._leaving.is_set()

    @should_exit.setter
    def should_exit(self, leave: bool) -> None:
        if leave:
            self._leaving.set()

    async def main_loop(self) -> None:
        await self._leaving.wait()


def server(app: App, settings: Server) -> uvicorn.Server:
    """A server that is ready to `serve()`. It does so until `should_exit` is set, in its own thread."""
    return _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=http_protocol(settings.request_timeout / SECOND, app.webhooks),
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
