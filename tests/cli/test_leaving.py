"""The process ends once the daemon has, whatever a thread still waits for."""

from __future__ import annotations

import subprocess
import sys
import time

HANGS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from remediator.cli.serve import leave
ThreadPoolExecutor(1).submit(threading.Event().wait, 60)
print("stopped")
leave(3, 0.5)
sys.exit(3)
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=55)
    assert (done.returncode, done.stdout) == (3, "stopped\n"), done.stderr
    assert time.monotonic() - began < 50


def test_one_that_has_nothing_to_wait_for_ends_at_once() -> None:
    quick = HANGS.replace("ThreadPoolExecutor(1).submit(threading.Event().wait, 60)\n", "").replace(
        "0.5", "50"
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", quick], timeout=55).returncode == 3
    assert time.monotonic() - began < 40
