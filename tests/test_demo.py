"""`make demo` does what it says, on real parts, and leaves nothing running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from tests.servers.process import Process

ROOT = Path(__file__).parent.parent


def _demo(log: Path, **environment: str) -> Process:
    return Process(
        [sys.executable, "-m", "demo"],
        log=log,
        cwd=ROOT,
        env={**os.environ, "KEEP": "", **environment},
        grace=30,
    )


def _await(demo: Process, text: str, timeout: float = 60) -> list[psutil.Process]:
    """Wait until the demo has printed this; returns everything it has started."""
    deadline = time.monotonic() + timeout
    while text not in demo.log.read_text():
        assert demo.running, demo.log.read_text()
        assert time.monotonic() < deadline, demo.log.read_text()
        time.sleep(0.05)
    return psutil.Process(demo.pid).children(recursive=True)


@pytest.fixture
def without_prometheus(tmp_path: Path) -> str:
    """A PATH on which neither Prometheus nor Alertmanager is."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("cp", "postgres"):
        if path := shutil.which(name):
            (directory / name).symlink_to(path)
    return str(directory)


@pytest.mark.slow
def test_it_heals_the_pool_and_says_why(tmp_path: Path) -> None:
    with _demo(tmp_path / "log") as demo:
        code = demo.wait(90)
    said = demo.log.read_text()
    assert code == 0, said
    assert "run 1: succeeded" in said
    before, after = (float(share) for share in re.findall(r"the pool (?:before|after): .* = (\d+) %", said))
    assert before > 80 > after
    assert "62 of 62 healthy sessions are unharmed" in said
    steps = re.findall(r"^  [\d:.]+  (\S+)", said, re.MULTILINE)
    assert steps[0] == "run.created"
    assert steps[-2:] == ["verify.healed", "run.succeeded"]
    assert "postgres.cancel_queries" in said.partition("verify.failed")[0]  # the gentle rung came first
    assert "postgres.terminate_queries" in said.partition("verify.failed")[2]
    for command in ("alerts explain 1", "audit query --run 1", "audit verify"):
        assert f"$ remediator {command}" in said
    assert "the log is whole" in said


@pytest.mark.slow
def test_without_prometheus_it_uses_a_recorded_alert_and_can_stay_up(
    tmp_path: Path, without_prometheus: str
) -> None:
    with _demo(tmp_path / "log", PATH=without_prometheus, KEEP="1") as demo:
        started = _await(demo, "still running: http://127.0.0.1:")
        demo.signal(signal.SIGINT)
        code = demo.wait(30)
    said = demo.log.read_text()
    assert code == 0, said
    assert "a recorded Alertmanager notification was posted" in said
    assert len(started) > 20  # the daemon, PostgreSQL and its sessions
    assert [process for process in started if process.is_running()] == []


def test_stopped_half_way_it_leaves_nothing(tmp_path: Path, without_prometheus: str) -> None:
    with _demo(tmp_path / "log", PATH=without_prometheus, TMPDIR=str(_enterable(tmp_path))) as demo:
        started = _await(demo, "healthy")
        demo.signal(signal.SIGTERM)
        code = demo.wait(30)
    assert code == 130, demo.log.read_text()
    assert started
    assert [process for process in started if process.is_running()] == []
    assert list((tmp_path / "open").iterdir()) == []


def _enterable(tmp_path: Path) -> Path:
    """A directory that a server which refuses root can enter too."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and "pytest" in str(directory):
            directory.chmod(0o755)
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    return directory


_IMPORTING = """
import importlib.abc, pkgutil, sys

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"{name} is locked for development only", name=name)

sys.meta_path.insert(0, Refusing())
import demo
for module in pkgutil.iter_modules(demo.__path__, "demo."):
    __import__(module.name)
"""


def test_it_needs_only_what_its_own_lock_file_installs() -> None:
    locked = {
        name: set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements" / name).read_text(), re.MULTILINE))
        for name in ("demo.txt", "dev.txt")
    }
    absent = locked["dev.txt"] - locked["demo.txt"]
    modules = [
        module
        for module, packages in metadata.packages_distributions().items()
        if absent.issuperset(re.sub(r"[-_.]+", "-", package).lower() for package in packages)
    ]
    assert {"psutil", "pytest", "hypothesis"} <= set(modules)
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTING, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
