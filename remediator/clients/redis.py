"""Redis: what replicas tell each other for comfort. Every call has a short deadline, and nothing that
must be true may depend on an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from remediator.errors import ConfigurationError, Temporary
from remediator.settings.values import Address

T = TypeVar("T")
WITHIN = 0.5
"""Seconds that one exchange may take, the connection included."""
_ALIVE = 5.0
"""Seconds of silence after which a subscription asks whether the server is still there."""


class RedisClient:
    """A few connections to one Redis, made when first needed and again whenever they are lost.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it.
        within: seconds that a call may take.

    Raises:
        ConfigurationError: the driver is missing, or the address cannot be read.
    """

    def __init__(self, url: Address, within: float = WITHIN) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise ConfigurationError(
                "redis.url: Redis needs its driver: pip install 'remediator[redis]'"
            ) from error
        self.shown = _place(url)
        self._within = within
        try:
            pool = BlockingConnectionPool.from_url(
                str(url),
                max_connections=4,
                timeout=within,
                socket_timeout=within,
                socket_connect_timeout=within,
                retry=Retry(NoBackoff(), 0),
                client_name="remediator",
            )
        except (ValueError, TypeError):
            raise ConfigurationError(f"redis.url: {url.shown} is no address of Redis") from None
        self._redis: Any = Redis.from_pool(pool)

    async def ask(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Send commands in one go; returns an answer for each.

        Raises:
            Temporary: there was no answer in time, or one of them was refused.
        """

        async def exchange() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute()
                return answers

        return await self._bounded(exchange())

    async def version(self) -> str:
        """Which server answers.

        Raises:
            Temporary: none does.
        """

        async def info() -> str:
            found = await self._redis.info("server")
            return str(found.get("redis_version", "of an unknown version"))

        return await self._bounded(info())

    async def listen(self, channel: str) -> AsyncGenerator[bytes, None]:
        """What is published from now on, until the connection is lost.

        Raises:
            Temporary: it cannot be had, or was lost.
        """
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await self._bounded(pubsub.subscribe(channel))
            silent = 0.0
            while True:
                message = await self._bounded(pubsub.get_message(timeout=1.0), extra=1.0)
                if message is not None and isinstance(message.get("data"), bytes):
                    silent = 0.0
                    yield message["data"]
                    continue
                silent += 1.0
                if silent >= _ALIVE:  # a server that hangs looks like one with nothing to say
                    await self.ask([("PING",)])
                    silent = 0.0
        finally:
            await _quietly(pubsub.aclose())

    async def close(self) -> None:
        """Let go of the connections."""
        await _quietly(self._redis.aclose())

    async def _bounded(self, work: Awaitable[T], extra: float = 0.0) -> T:
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as Late

        try:
            async with asyncio.timeout(2 * self._within + extra):
                return await work
        except (TimeoutError, Late):
            raise Temporary(f"Redis at {self.shown} does not answer") from None
        except (RedisError, OSError) as error:
            # Its messages can hold the address, and that a password.
            raise Temporary(f"Redis at {self.shown}: {type(error).__name__}") from None


async def _quietly(closing: Any) -> None:
    """A connection that cannot be closed in good order is let go of all the same."""
    from redis.exceptions import RedisError

    try:
        async with asyncio.timeout(WITHIN):
            await closing
    except (TimeoutError, RedisError, OSError):
        return


def _place(url: Address) -> str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
