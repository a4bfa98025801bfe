"""A world on every store that there is. Another engine joins by another name in ENGINES."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.store import open_store
from tests.store.world import START, Lines, World

ENGINES = ("sqlite file", "sqlite memory")


@pytest_asyncio.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A new, open store. `reopen` closes it and opens it again, as a restart does."""
    clock = DrivenClock(START)
    durable = request.param == "sqlite file"
    url = f"sqlite://{tmp_path}/store.db" if durable else "sqlite://"

    async def reopen() -> None:
        if not durable:
            pytest.skip("a store in memory does not outlive itself")
        await made.store.close()
        made.store = open_store(url, clock, receivers={"lines": Lines()})
        await made.store.open()

    made = World(open_store(url, clock, receivers={"lines": Lines()}), clock, reopen)
    await made.store.open()
    yield made
    await made.store.close()


@pytest_asyncio.fixture
async def file_world(tmp_path: Path) -> AsyncIterator[World]:
    """A new, open store in a file: store.db of tmp_path."""
    clock = DrivenClock(START)
    url = f"sqlite://{tmp_path}/store.db"

    async def reopen() -> None:
        await made.store.close()
        made.store = open_store(url, clock, receivers={"lines": Lines()})
        await made.store.open()

    made = World(open_store(url, clock, receivers={"lines": Lines()}), clock, reopen)
    await made.store.open()
    yield made
    await made.store.close()
