"""Nothing grows for ever: rejected bodies and the write-ahead log."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

from remediator.clock import DrivenClock
from remediator.contracts import Bad, Store
from remediator.store import open_store
from remediator.store.limits import Limits
from tests.store.world import START, Lines, World, alert


def store_at(path: Path, limits: Limits) -> Store:
    return open_store(f"sqlite://{path}", DrivenClock(START), receivers={"lines": Lines()}, limits=limits)


def rejected(path: Path) -> list[tuple[str, int]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT message, length(body) FROM rejected ORDER BY id").fetchall()
    connection.close()
    return rows


async def test_rejected_bodies_are_cut_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = store_at(path, Limits(rejected_rows=3, rejected_bytes=250, rejected_body=100))
    await store.open()
    for number in range(6):
        body = b"x" * (10 if number < 4 else 500)
        await store.reject("am", 400, (Bad(field="", message=str(number), body=body),), ())
    assert rejected(path) == [("3", 10), ("4", 100), ("5", 100)]
    await store.reject("am", 400, (Bad(field="", message="6", body=b"y" * 100),), ())
    assert rejected(path) == [("5", 100), ("6", 100)]  # the bytes are bounded too
    await store.close()
    store = store_at(path, Limits(rejected_rows=2, rejected_bytes=250, rejected_body=100))
    await store.open()
    await store.reject("am", 400, (Bad(field="", message="7", body=b""),), ())
    assert rejected(path) == [("6", 100), ("7", 0)]
    await store.close()


async def test_the_log_stays_bounded_under_steady_load_and_empties_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    bound = 1_000_000
    store = store_at(path, Limits(wal=bound))
    world = World(store, DrivenClock(START), lambda: None)
    await store.open()
    written, number, stop = 0, 0, time.monotonic() + 2
    while time.monotonic() < stop or written < 8 * bound:
        text = "x" * 20_000
        await world.deliver(*(alert(f"a{number}-{n}", annotations={"t": text}) for n in range(5)))
        written, number = written + 100_000, number + 1
        await asyncio.sleep(0.005)
    log = os.stat(f"{path}-wal").st_size
    # It is looked at four times a second, so some of it is what came in between.
    assert log < written / 2
    await store.close()
    assert "store.db-wal" not in os.listdir(tmp_path)
