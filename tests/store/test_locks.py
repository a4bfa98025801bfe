"""SQLite's own locks on its files stay the daemon's: another process that looks must not take it for dead."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from remediator.clock import DrivenClock
from remediator.store import open_store
from tests.store.world import START, Lines, World, alert

_TRY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
"""
"""Takes the lock that says whether anybody has the log's index open ("dead man's switch", os_unix.c). Who
gets it cuts the index off, and whoever had it mapped dies of SIGBUS at the next look."""


def taken_by_another(database: Path) -> bool:
    """Whether another process gets that lock, which is what SQLite does there on opening the file."""
    done = subprocess.run(
        [sys.executable, "-c", _TRY, f"{database}-shm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "BlockingIOError" in done.stderr, done.stderr
    return done.returncode == 0


async def test_the_index_of_the_log_stays_locked_under_steady_load(tmp_path: Path) -> None:
    """To close any handle on a file drops all of a process's locks on it (POSIX): the daemon looked into
    the index for the size of its log, and closed it; then `audit verify` beside it killed it."""
    path = tmp_path / "store.db"
    clock = DrivenClock(START)
    store = open_store(f"sqlite://{path}", clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)
    await store.open()
    assert not taken_by_another(path)
    end = time.monotonic() + 1.5  # several rounds of the thread that bounds the log
    number = 0
    while time.monotonic() < end:
        number += 1
        await world.deliver(alert(f"{number:016x}"))
    assert not taken_by_another(path)
    await store.close()
