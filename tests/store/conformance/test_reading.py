"""Alerts are read back from the bodies that brought them: each body once, whatever it brought."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from remediator.clock import DrivenClock
from remediator.contracts import Parsed
from remediator.model import SECOND, Alert, Instant, Status
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert, opening

MANY = 1_200


class Counts(Lines):
    """A receiver that counts how often a body is read."""

    def __init__(self) -> None:
        self.read = 0

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        self.read += 1
        return super().parse(sender, body, now)

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        self.read += 1
        return super().alert(sender, body, position, now)


@asynccontextmanager
async def opened(url: str, receiver: Lines) -> AsyncIterator[World]:
    clock = DrivenClock(START)
    store = open_store(url, clock, receivers={"lines": receiver})
    await store.open()
    try:
        yield World(store, clock, lambda: None)  # type: ignore[arg-type]
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return "sqlite://" if request.param == "sqlite" else request.getfixturevalue("database")


async def test_a_run_about_a_thousand_alerts_of_one_body_reads_that_body_once(url: str) -> None:
    receiver = Counts()
    async with opened(url, receiver) as world:
        world.openings = lambda one: (opening(),)
        alerts = [alert(f"a{number}", labels={"pod": f"p{number}"}) for number in range(MANY)]
        run = (await world.deliver(*alerts)).runs[0]
        world.later(SECOND)
        changed = [alert(f"a{number}", labels={"pod": f"new-p{number}"}) for number in (3, 5)]
        await world.deliver(*changed, alert("a4", Status.RESOLVED, ends_at=world.now), alert("other"))
        receiver.read = 0
        episodes = await world.store.episodes(run)
        assert receiver.read == 2  # one body each
        found = {one.alert.fingerprint: one.alert for one in episodes}
        assert len(found) == len(episodes) == MANY + 1
        wanted = {f"a{number}": f"p{number}" for number in range(MANY)} | {"a3": "new-p3", "a5": "new-p5"}
        assert {name: found[name].labels.get("pod") for name in wanted if name != "a4"} == {
            name: pod for name, pod in wanted.items() if name != "a4"
        }
        assert [name for name, one in found.items() if one.status is Status.RESOLVED] == ["a4"]
        receiver.read = 0
        listed = await world.store.find_episodes(limit=500)
        assert (len(listed), receiver.read <= 2) == (500, True)
        (claimed,) = await world.store.claim("w", 10)
        receiver.read = 0
        facts = await world.store.facts([claimed])
        assert (len(facts[run].episodes), receiver.read <= 2) == (MANY + 1, True)
