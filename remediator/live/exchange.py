"""Tells the other replicas through Redis, and hears from them. The only part that waits for Redis, in
tasks of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from remediator import metrics
from remediator.clients.redis import RedisClient
from remediator.contracts import Clock
from remediator.errors import Temporary
from remediator.live.flood import SLOTS, Flood, Window
from remediator.live.hub import Hint, Hub, Kind

log = structlog.get_logger()

COUNTS = 0.25
"""Seconds between two exchanges of counts, while bodies come."""
_QUIET = 8
"""Of so many turns, one is taken by a sender that posts nothing here."""
BATCH = 0.05
"""Seconds for which hints are gathered before they are published."""
MOST = 500
"""Hints of one batch; what is beyond is left out, as a slow network would."""
PULSE = 5.0
"""Seconds between two looks whether the server is there."""
_AGAIN = 1.0
"""Seconds until a server that did not answer is asked again."""


class _Said(msgspec.Struct, frozen=True):
    """What is published: hints, and by whom, who need not be told."""

    by: str
    hints: list[tuple[str, int | str]]


class Exchange:
    """The tasks beside Redis.

    Args:
        replica: this process's name among the others.
        prefix: of every key and channel, so that installations can share a server.
    """

    def __init__(
        self, client: RedisClient, flood: Flood, hub: Hub, clock: Clock, replica: str, prefix: str
    ) -> None:
        self._client = client
        self._flood = flood
        self._hub = hub
        self._clock = clock
        self._replica = replica
        self._prefix = prefix
        self._channel = f"{prefix}:live"
        self._pending: dict[Hint, None] = {}
        self._some = asyncio.Event()
        self._turns = 0
        self._reached: bool | None = None
        hub.relay = self._gather

    async def run(self) -> None:
        """Exchange until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again(self._pulse))
            if self._flood.windows:
                tasks.create_task(self._again(self._counts))
            tasks.create_task(self._again(self._publish))
            tasks.create_task(self._again(self._hear))

    async def close(self) -> None:
        await self._client.close()

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Temporary as error:
                self._is(False, str(error))
                await asyncio.sleep(_AGAIN)

    async def _ask(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        answers = await self._client.ask(commands)
        self._is(True)
        return answers

    async def _pulse(self) -> None:
        """So that a server that is lost is seen to be, also when there is nothing to tell."""
        await self._ask(("PING",))
        await asyncio.sleep(PULSE)

    def _is(self, reached: bool, why: str = "") -> None:
        if reached is not self._reached:
            self._reached = reached
            metrics.REDIS_UP.set(int(reached))
            if reached:
                log.info("redis.reached", server=self._client.shown)
            else:
                log.warning("redis.lost", why=why, so="counts and live updates are this process's own")

    # ------------------------------------------------------------ counts

    async def _counts(self) -> None:
        """One exchange of the windows in which something happened; now and then also of those in which
        something may have happened elsewhere."""
        await asyncio.sleep(COUNTS)
        self._turns += 1
        for sender, window in self._flood.windows.items():
            if not window.touched and not (window.total and self._turns % _QUIET == 0):
                continue
            window.touched = False
            key = f"{self._prefix}:flood:{sender}"
            own = [item for slot, count in window.own.items() for item in (f"{slot}:{self._replica}", count)]
            commands: list[tuple[str | bytes | int, ...]] = [("HGETALL", key)]
            if own:
                # Counts, not differences: an answer that was lost, or a server that forgot, adds nothing.
                commands.insert(0, ("HSET", key, *own))
                commands.append(("PEXPIRE", key, 2 * window.limit.window + 1000))
            try:
                found = (await self._ask(*commands))[1 if own else 0]
            except Temporary:
                window.touched = True  # still to be told
                raise
            now = self._clock.now()
            others, old = sort(found, window, self._replica, now // window.span)
            window.learn(others, now)
            if old:
                await self._ask(("HDEL", key, *old))

    # ------------------------------------------------------------ hints

    def _gather(self, hint: Hint) -> None:
        if len(self._pending) < MOST:
            self._pending[hint] = None
        self._some.set()

    async def _publish(self) -> None:
        await self._some.wait()
        await asyncio.sleep(BATCH)
        self._some.clear()
        hints, self._pending = list(self._pending), {}
        body = msgspec.json.encode(_Said(self._replica, [(str(kind), id) for kind, id in hints]))
        await self._ask(("PUBLISH", self._channel, body))

    async def _hear(self) -> None:
        """Listen while a client here looks on."""
        await self._hub.anyone.wait()
        async with contextlib.aclosing(self._client.listen(self._channel)) as published:
            async for body in published:
                for hint in heard(body, self._replica):
                    self._hub.heard(hint)
                if not self._hub.anyone.is_set():
                    return


def sort(
    found: Mapping[bytes, bytes], window: Window, replica: str, slot: int
) -> tuple[dict[int, int], list[bytes]]:
    """Read a hash of counts: those of the others by slot, and the fields that nobody needs any more.
    What stands in Redis may be anybody's: what cannot be read is old."""
    others: dict[int, int] = {}
    old: list[bytes] = []
    for field, value in found.items():
        at, _, who = field.partition(b":")
        readable = at.isdigit() and value.isdigit() and len(at) < 19 and len(value) < 10
        if not readable or int(at) < slot - SLOTS:
            old.append(field)
        elif who.decode(errors="replace") != replica and int(at) <= slot + 1:
            others[int(at)] = others.get(int(at), 0) + int(value)
    return others, old


def heard(body: bytes, replica: str) -> list[Hint]:
    """Read what was published; nothing from what this process said itself, or what cannot be read."""
    try:
        said = msgspec.json.decode(body, type=_Said)
        if said.by == replica or len(said.hints) > MOST:
            return []
        return [(Kind(kind), id if isinstance(id, int) else id[:1_100]) for kind, id in said.hints]
    except (msgspec.MsgspecError, ValueError):
        return []
