"""A hundred thousand alerts: how fast the store opens on them, and what they take in memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from pathlib import Path

import pytest

from remediator.clock import DrivenClock
from remediator.model import AlertId, Status
from remediator.store import open_store
from remediator.store.known import Known, KnownAlerts
from tests.store.world import START, Lines, World, alert

ALERTS = 100_000


@pytest.mark.slow
async def test_a_hundred_thousand_alerts_cost_less_to_open_than_they_did_to_take(tmp_path: Path) -> None:
    url, clock = f"sqlite://{tmp_path}/store.db", DrivenClock(START)
    store = open_store(url, clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)
    await store.open()
    began = time.process_time()
    for start in range(0, ALERTS, 1_000):
        await world.deliver(*(alert(f"{number:016x}") for number in range(start, start + 1_000)))
    came = time.process_time() - began
    await store.close()

    store = open_store(url, clock, receivers={"lines": Lines()})
    began = time.process_time()
    await store.open()
    took = time.process_time() - began
    world = World(store, clock, lambda: None)
    assert (await world.deliver(alert(f"{ALERTS - 1:016x}"), alert("new"))).repeated == 1
    oldest = await store.find_episodes(firing=True, before=AlertId(3), limit=10)
    assert [episode.alert.fingerprint for episode in oldest] == [f"{1:016x}", f"{0:016x}"]
    await store.close()
    assert took < came  # a third of it


def test_an_alert_takes_at_most_400_bytes_of_memory() -> None:
    count = 20_000
    known = KnownAlerts()
    gc.collect()
    tracemalloc.start()
    own = known.of("am")
    for number in range(count):
        fresh = Known(
            number + 10**6,
            START + number,
            START + number,
            Status.FIRING,
            (number * 0x9E3779B97F4A7C15) % 2**63,
            None,
            number + 10**7,
            START,
        )
        known.put(own, "am", f"{number:016x}", fresh)
        known.commit()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(own) == count
    assert used / count <= 400
