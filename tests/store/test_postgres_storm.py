"""A storm on PostgreSQL: a body of many alerts costs a few statements, not some for each alert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest_asyncio

from remediator.clock import DrivenClock
from remediator.model import HOUR, MINUTE, Alert, Instant, Status
from remediator.store import open_store
from tests.servers.postgres import Postgres
from tests.store.world import START, Lines, World, alert, opening

MANY = 1_000
FEW = 60
"""Statements for all of them, BEGIN, COMMIT and what the watch asks every half second included."""


@pytest_asyncio.fixture
async def told(database: str) -> AsyncIterator[World]:
    """A store of whose sessions the server writes every statement down."""

    async def reopen() -> None:
        raise NotImplementedError

    clock = DrivenClock(START)
    address = f"{database}?options={quote('-c log_statement=all')}"
    world = World(open_store(address, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    yield world
    await world.store.close()


def statements(postgres: Postgres) -> int:
    """How many the server has written down so far."""
    log = postgres.directory.with_suffix(".log").read_text(errors="replace")
    return sum("LOG:  statement: " in line or "LOG:  execute " in line for line in log.splitlines())


def storm(status: Status = Status.FIRING) -> list[Alert]:
    return [alert(f"a{number}", status) for number in range(MANY)]


async def test_a_body_that_opens_a_run_for_each_alert(postgres: Postgres, told: World) -> None:
    told.openings = lambda one: (opening(target=one.fingerprint, open_runs=MANY),)
    before = statements(postgres)
    receipt = await told.deliver(*storm())
    assert statements(postgres) - before < FEW
    assert (receipt.accepted, len(receipt.runs), len(set(receipt.runs))) == (MANY, MANY, MANY)
    assert not receipt.refused

    before = statements(postgres)
    assert (await told.deliver(*storm())).repeated == MANY
    assert statements(postgres) - before < FEW // 2


async def test_episodes_of_one_target_attach_and_too_many_runs_are_refused(
    postgres: Postgres, told: World
) -> None:
    """Within the body and beyond it, as if each alert had come alone."""
    told.openings = lambda one: (opening(target=f"t{int(one.fingerprint[1:]) % 50}", open_runs=20),)
    before = statements(postgres)
    receipt = await told.deliver(*storm())
    assert statements(postgres) - before < FEW
    # 20 targets have a run, to which the others of theirs attach; 30 have none and are refused each time.
    assert len(receipt.refused) == 30 * MANY // 50
    runs = await told.store.find_runs(open=True, limit=MANY)
    assert sorted(run.target or "" for run in runs) == sorted(f"t{number}" for number in range(20))
    for run in runs[:3]:
        assert len(await told.store.episodes(run.id)) == MANY // 50

    more = await told.deliver(alert("b1"), alert("b30"))
    assert more.refused == ("p",)
    assert len(await told.store.find_runs(open=True, limit=MANY)) == 20


async def test_a_body_that_ends_them_all_wakes_every_run(postgres: Postgres, told: World) -> None:
    later = Instant(START + HOUR)
    told.openings = lambda one: (opening(target=one.fingerprint, open_runs=MANY, next_at=later),)
    await told.deliver(*storm())
    assert await told.store.claim("w", MANY) == []
    told.later(MINUTE)
    before = statements(postgres)
    receipt = await told.deliver(*storm(Status.RESOLVED))
    assert statements(postgres) - before < FEW
    assert receipt.resolved == MANY
    assert len(await told.store.claim("w", MANY)) == MANY
    assert not await told.store.find_episodes(firing=True, limit=1)
