"""The answer to one request of uvicorn's, given in one piece and without a task."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from remediator.web.problem import CONTENT_TYPE, document

_FAILED = document(500, "the daemon failed to answer; its log says why")
_CLOSE = (b"connection", b"close")

log = structlog.get_logger(__name__)


class Reply:
    """Answers a request as its cycle's `send` would, which asks for an application and two messages.

    Args:
        cycle: of a request that has arrived whole, of a client that reads its answers.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def __call__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Give the answer. Names of headers are in lower case, Content-Length is among them."""
        cycle = self._cycle
        if cycle.disconnected:
            return
        close = _CLOSE in headers
        cycle.response_started = True
        parts = [STATUS_LINE[status]]
        for name, value in cycle.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive and not close:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        cycle.transport.write(b"".join(parts))
        cycle.response_complete = True
        if close or not cycle.keep_alive:
            cycle.transport.close()
        done, cycle.on_response = cycle.on_response, _nothing
        done()

    def failed(self, error: BaseException) -> None:
        """There is no answer but that the daemon failed."""
        log.error("webhook failed", exc_info=error)
        if not self._cycle.response_started:
            length = b"%d" % len(_FAILED)
            headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", length), _CLOSE]
            self(500, headers, _FAILED)

    async def after(self, rest: Coroutine[Any, Any, None]) -> None:
        """What gives the answer, or fails to."""
        try:
            await rest
        except Exception as error:  # noqa: BLE001 - as uvicorn does around an application
            self.failed(error)


def _nothing() -> None:
    """So that the cycle no longer holds its connection."""
