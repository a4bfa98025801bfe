"""What the tests share. Only servers that one test cannot spoil for another are shared."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from types import FrameType

import hypothesis
import pytest

from tests.servers.moto import Moto
from tests.servers.process import Missing


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM unwind like Ctrl-C, so that the servers of the tests are stopped."""
    del config

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # On a machine that is busy with something else an example may take any time.
    patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.register_profile("patient", patient)
    hypothesis.settings.load_profile("patient")


LONG = ("simulation", "crash", "faults", "store", "e2e", "cli")
"""Folders whose files take long. They begin first, so that none is left for a single worker at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a folder, as they stand."""

    def rank(item: pytest.Item) -> int:
        folder = item.location[0].split("/")[1:2]
        return LONG.index(folder[0]) if folder and folder[0] in LONG else len(LONG)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A component that cannot be had is a visible skip that says how to get it."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(Missing):
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, line or 0, f"Skipped: {call.excinfo.value}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test has counted (its property `summary`), so that a log shows how much was tried."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "summary" and report.when == "call":
                    terminalreporter.write_line(str(value))


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Moto]:
    """One moto server for all tests; give each test names of its own, or call `reset()` first."""
    with Moto() as server:
        yield server
