"""Reads the body of a request within bounds of size; time is bounded by the caller."""

from __future__ import annotations

from typing import Any


class Gone(Exception):
    """The client went away before its request was complete."""


class TooLarge(Exception):
    """The body is larger than allowed; what came of it was dropped."""


async def read(receive: Any, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes.

    Raises:
        TooLarge, Gone.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise TooLarge
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        if size > limit:
            raise TooLarge
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part: bytes = message.get("body", b"")
        size += len(part)
        parts.append(part)
    if size > limit:
        raise TooLarge
    return b"".join(parts)


def content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """The declared length, None where there is none (chunked)."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None
