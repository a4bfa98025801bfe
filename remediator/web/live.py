"""/api/v1/live: what changes, as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import StreamingResponse

from remediator.live.hub import CLIENTS, Subscription
from remediator.web.access import Daemon, Viewer
from remediator.web.problem import Problem

router = APIRouter(tags=["live"])

HEARTBEAT = 15.0
"""Seconds of silence after which a comment tells client and proxies that the stream stands."""


async def subscription(daemon: Daemon, caller: Viewer) -> AsyncIterator[Subscription]:
    """The caller's share of what changes, for as long as it is connected."""
    made = daemon.hub.join()
    if made is None:
        raise Problem(
            503, f"{CLIENTS} clients look on already, or the daemon stops; ask again", {"Retry-After": "5"}
        )
    try:
        yield made
    finally:
        daemon.hub.leave(made)


class EventStream(StreamingResponse):
    """Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    media_type = "text/event-stream"


@router.get("/live", response_class=EventStream)
async def live(looking: Annotated[Subscription, Depends(subscription)]) -> EventStream:
    """What changes, as it changes: events `change` with `{"kind": "run", "id": 7}`, without content, so ask
    again for what you show. Kinds are run, control, effect (the id is its run's) and incident. A comment
    comes every 15 seconds. An event `over` says why the stream ends: connect again, and ask for everything
    anew."""
    return EventStream(told(looking), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def told(looking: Subscription, beat: float = HEARTBEAT) -> AsyncIterator[bytes]:
    """The stream's bytes.

    Args:
        beat: seconds of silence after which a comment is sent.
    """
    yield b": connected\n\n"
    while not looking.over:
        try:
            async with asyncio.timeout(beat):
                hints = await looking.next()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        if hints:
            yield b"".join(_event("change", {"kind": kind.value, "id": id}) for kind, id in hints)
    yield _event("over", {"why": looking.over})


def _event(name: str, data: dict[str, int | str]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
