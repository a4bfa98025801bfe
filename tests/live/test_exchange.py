"""What replicas tell each other through a real Redis, and what is left when it is gone, hangs or forgot."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from remediator.clients.redis import RedisClient
from remediator.clock import SystemClock
from remediator.errors import ConfigurationError, Temporary
from remediator.live.exchange import Exchange
from remediator.live.flood import Flood
from remediator.live.hub import Hub, Kind
from remediator.model import HOUR, Budget
from remediator.settings.values import Address
from tests.servers.redis import Redis

LIMIT = {"am": Budget(count=100, window=HOUR)}


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


class Replica:
    """The comfort of one process, without the rest of it."""

    def __init__(self, redis: Redis, name: str) -> None:
        self.flood = Flood(LIMIT, SystemClock())
        self.hub = Hub()
        self.client = RedisClient(Address(redis.url))
        self.exchange = Exchange(self.client, self.flood, self.hub, SystemClock(), name, "test")

    @property
    def total(self) -> int:
        return self.flood.windows["am"].total

    def post(self, count: int) -> int:
        """Returns how many were taken."""
        return sum(self.flood.refuse("am") == 0 for _ in range(count))


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.exchange.run()) for one in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in replicas:
            await one.exchange.close()


async def until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.02)


async def test_bodies_are_counted_over_all_replicas(redis: Redis) -> None:
    one, two = Replica(redis, "one"), Replica(redis, "two")
    async with running(one, two):
        assert one.post(60) == 60
        assert two.post(10) == 10
        await until(lambda: one.total >= 60 and two.total == 70, "two knows of one's")
        assert two.post(100) == 30
        await until(lambda: one.total >= 100, "one knows of two's")
        assert one.post(100) == 0


async def test_a_redis_that_is_gone_leaves_each_its_own_count(redis: Redis) -> None:
    one, two = Replica(redis, "one"), Replica(redis, "two")
    async with running(one, two):
        one.post(40)
        two.post(1)
        await until(lambda: two.total == 41, "two knows of one's")
        redis.process.kill()
        assert two.post(200) == 59  # what was known stays known, and no more is taken than the limit
        assert one.post(200) == 60
        redis.process.start()  # empty
        one.post(1)
        two.post(1)
        await until(lambda: one.total == 160 and two.total == 160, "each is told again")
        assert two.post(1) == 0


async def test_a_redis_that_hangs_holds_nobody_up(redis: Redis) -> None:
    one = Replica(redis, "one")
    async with running(one):
        one.post(1)
        redis.process.signal(signal.SIGSTOP)
        try:
            slowest, taken = 0.0, 0
            for _ in range(100):
                begun = time.perf_counter()
                taken += one.post(1)
                one.hub.tell(Kind.RUN, 1)
                slowest = max(slowest, time.perf_counter() - begun)
                await asyncio.sleep(0.01)
            assert taken == 99
            assert slowest < 0.4  # an exchange would take 0.5 s
            begun = time.perf_counter()
            with pytest.raises(Temporary, match="does not answer"):
                await one.client.version()
            assert time.perf_counter() - begun < 2
        finally:
            redis.process.signal(signal.SIGCONT)


async def test_a_change_is_heard_on_every_replica_once(redis: Redis) -> None:
    one, two = Replica(redis, "one"), Replica(redis, "two")
    here, there = one.hub.join(), two.hub.join()
    assert here is not None
    assert there is not None
    async with running(one, two):
        heard: list[object] = []
        end = time.monotonic() + 15
        while not heard and time.monotonic() < end:  # until its subscription stands
            one.hub.tell(Kind.RUN, 1)
            try:
                async with asyncio.timeout(0.2):
                    heard = list(await there.next())
            except TimeoutError:
                continue
        assert heard == [(Kind.RUN, 1)]
        await here.next()
        one.hub.tell(Kind.CONTROL, "pause:")
        assert await here.next() == [(Kind.CONTROL, "pause:")]
        async with asyncio.timeout(10):
            while (Kind.CONTROL, "pause:") not in await there.next():  # a late one of the first may come
                continue
        assert not here._pending  # its own do not come back to it


async def test_after_a_restart_of_redis_changes_are_heard_again(redis: Redis) -> None:
    one, two = Replica(redis, "one"), Replica(redis, "two")
    there = two.hub.join()
    assert there is not None
    async with running(one, two):
        redis.process.kill()
        one.hub.tell(Kind.RUN, 1)
        redis.process.start()
        heard: list[object] = []
        end = time.monotonic() + 20
        while not heard and time.monotonic() < end:
            one.hub.tell(Kind.RUN, 2)
            try:
                async with asyncio.timeout(0.2):
                    heard = list(await there.next())
            except TimeoutError:
                continue
        assert (Kind.RUN, 2) in heard


async def test_a_wrong_password_is_told_without_it(redis: Redis) -> None:
    right = RedisClient(Address(redis.url))
    await right.ask([("CONFIG", "SET", "requirepass", "correct-horse")])
    await right.close()
    client = RedisClient(Address(f"redis://:hunter2@127.0.0.1:{redis.port}/0"))
    with pytest.raises(Temporary) as told:
        await client.version()
    await client.close()
    assert "hunter2" not in str(told.value)
    assert f"127.0.0.1:{redis.port}" in str(told.value)


def test_an_address_that_cannot_be_read_is_told_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as told:
        RedisClient(Address("redis://:hunter2@127.0.0.1:6379/0?socket_timeout=never"))
    assert "hunter2" not in str(told.value)
    assert "redis.url" in str(told.value)
