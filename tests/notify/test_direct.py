"""A page without the outbox, when the store takes no writes; with a real store on a disk that is full of
faults: the database is stopped in tests/faults."""

from __future__ import annotations

import asyncio
from typing import cast

from remediator.contracts import Notifier, Store
from remediator.model import HOUR, MINUTE, Millis
from remediator.notify.direct import StorePager
from tests.notify.test_outbox import Pager


class Away:
    """A store of which only one thing is asked."""

    def __init__(self) -> None:
        self.unwritable: Exception | None = None


class Steady:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pager(store: Away, clock: Steady, *notifiers: Pager) -> StorePager:
    named: dict[str, Notifier] = {one.name: one for one in notifiers}
    return StorePager(
        cast(Store, store), named, list(named), "host:7", Millis(5 * MINUTE), Millis(HOUR), clock
    )


async def test_people_are_paged_once_after_five_minutes_then_every_hour_and_when_it_is_back() -> None:
    store, clock, primary = Away(), Steady(), Pager("primary")
    page = pager(store, clock, primary)
    said: list[tuple[int, str]] = []
    for second in range(2 * 3600 + 1200):
        clock.now = 1000.0 + second
        store.unwritable = RuntimeError("connection refused") if 10 <= second < 2 * 3600 + 900 else None
        await page()
        if page._under_way:
            await page.settle()
            said.append((second, primary.sent[-1].subject))
    assert said == [
        (310, "STORE GONE: remediator on host:7"),
        (310 + 3600, "STORE GONE: remediator on host:7"),
        (310 + 7200, "STORE GONE: remediator on host:7"),
        (2 * 3600 + 900, "STORE BACK: remediator on host:7"),
    ]
    assert "no write for 5m: connection refused" in primary.sent[0].body
    assert "after 2h14m50s" in primary.sent[-1].body


async def test_a_short_absence_pages_nobody() -> None:
    store, clock, primary = Away(), Steady(), Pager("primary")
    page = pager(store, clock, primary)
    for second in range(1200):
        clock.now = 1000.0 + second
        store.unwritable = RuntimeError("gone") if second % 299 else None
        await page()
    await page.settle()
    assert primary.tried == 0


async def test_a_notifier_that_hangs_keeps_nobody_from_being_paged() -> None:
    store, clock = Away(), Steady()
    hung, well = Pager("hung", hangs=True), Pager("well")
    page = pager(store, clock, hung, well)
    store.unwritable = RuntimeError("gone")
    await page()
    clock.now += 300
    await page()
    async with asyncio.timeout(5):
        while not well.sent:  # noqa: ASYNC110
            await asyncio.sleep(0)
    for task in page._under_way:
        task.cancel()
    assert hung.tried == 1
