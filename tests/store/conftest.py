"""A world on every store that there is. Another engine joins by another name in ENGINES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.store import open_store
from tests.servers.postgres import Postgres
from tests.store.world import START, Lines, World

ENGINES = ("sqlite file", "sqlite memory", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each takes a database of its own from it."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The address of a database with every table."""
    address = postgres.dsn(dbname="stores")

    async def migrate() -> None:
        store = open_store(address, DrivenClock(START), receivers={})
        await store.open()
        await store.close()

    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE stores")
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(lambda: asyncio.run(migrate())).result()
    return address


@pytest.fixture
def database(migrated: str) -> str:
    """The address of a database with every table and no row. Emptied, for that takes a hundredth of
    the time that a new one does."""
    with psycopg.connect(migrated) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for (table,) in tables.fetchall():
            if table != "alembic_version":
                connection.execute(f"DELETE FROM {table}")
        connection.execute(
            "SELECT setval(oid::regclass, 1, false) FROM pg_class "
            "WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
        )
    return migrated


@pytest_asyncio.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A new, open store. `reopen` closes it and opens it again, as a restart does."""
    clock = DrivenClock(START)
    durable = request.param != "sqlite memory"
    if request.param == "postgresql":
        url = request.getfixturevalue("database")
    else:
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
