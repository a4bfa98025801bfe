"""A disk that is full, or fails: clear errors, nothing half written, no pretending."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.clock import DrivenClock
from remediator.errors import StoreUnavailable
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    clock = DrivenClock(START)
    store = open_store(f"sqlite://{small_disk}/store.db", clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)
    await store.open()
    ballast = small_disk / "ballast"
    taken: list[str] = []
    with pytest.raises(StoreUnavailable, match="disk is full; free space"):  # noqa: PT012
        ballast.write_bytes(b"\0" * 300_000)
        for number in range(1_000):
            name = f"a{number}"
            await world.deliver(alert(name, annotations={"text": "x" * 4_000}))
            taken.append(name)
    refused = f"a{len(taken)}"
    assert taken
    assert store.fatal is None  # nothing is in doubt: it can go on when there is space
    assert (await world.deliver(alert(taken[0], annotations={"text": "x" * 4_000}))).repeated == 1
    ballast.unlink()
    again = await world.deliver(alert(refused))
    assert again.accepted == 1  # what was refused is not remembered
    found = [one.alert.fingerprint for one in await store.find_episodes(limit=1_000)]
    assert sorted(found) == sorted([*taken, refused])
    await store.seal()
    assert (await store.verify()).whole
    await store.close()


FAILING = """
import asyncio, resource, signal, sys
from remediator.errors import StoreUnavailable
from remediator.clock import SystemClock
from remediator.store import open_store
from tests.store.world import Lines, World, alert

async def main():
    clock = SystemClock()
    store = open_store("sqlite://" + sys.argv[1], clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)
    await store.open()
    await world.deliver(alert("before"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    number = 0
    try:
        while True:
            await world.deliver(alert(f"a{number}", annotations={"text": "x" * 4_000}))
            number += 1
    except StoreUnavailable as error:
        print(number, error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for call in (world.deliver(alert("after")), world.deliver(alert("before")), store.controls()):
        try:
            await call
            print("went on")
        except StoreUnavailable as error:
            print("refused", flush=True)
    print("fatal" if store.fatal else "alive", flush=True)
    await store.close()

asyncio.run(main())
"""


async def test_after_a_failed_write_nothing_is_answered_until_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FAILING, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    number, message = first.split(" ", 1)
    assert "the disk failed or its quota is used up" in message
    assert rest == ["refused", "refused", "refused", "fatal"]
    store = open_store(f"sqlite://{path}", DrivenClock(START), receivers={"lines": Lines()})
    await store.open()
    found = {one.alert.fingerprint for one in await store.find_episodes(limit=1_000)}
    assert found == {"before", *(f"a{one}" for one in range(int(number)))}
    await store.close()
