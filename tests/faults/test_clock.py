"""The wall clock steps under running daemons: they pause, say so, tell people, and exceed no budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash.installation import Installation
from tests.faults.scene import Scene, quiet
from tests.servers.directory import remove, temporary
from tests.servers.faketime import WallClock
from tests.servers.postgres import Postgres


class Watched(Scene):
    """A daemon whose wall clock is ahead of ours by what a file says; time itself goes on as ever.

    Args:
        clock: that of its database's server instead.
    """

    def __init__(self, home: Path, clock: WallClock | None = None, **more: Any) -> None:
        super().__init__(home, **more)
        self._clock = clock or WallClock(home / "ahead")
        if clock is None:
            self.daemon.env = self._clock.env

    def step(self, seconds: int) -> None:
        self._clock.step(seconds)

    def pauses(self) -> list[str]:
        found = self.daemon.get("audit", kind="control.paused", oldest_first=True)["items"]
        return [event["observed"] for event in found]

    def told(self) -> int:
        """How many messages went out about a jump of the clock."""
        return told(self.daemon)

    def resume(self) -> None:
        answer = self.daemon.http.post("/api/v1/control/resume", json={"reason": "clock checked"})
        assert answer.status_code == 200, answer.text

    def waits(self, queue: str, reason: str) -> None:
        def so() -> bool:
            runs = [run for run in self.daemon.runs() if run["target"] == f"recorder:{queue}"]
            return [(run["outcome"], run["reason"]) for run in runs] == [(None, reason)]

        self.daemon.until(so, f"{queue} waits: {reason}")


def told(daemon: Installation) -> int:
    """How many messages a daemon has sent out about a jump of the clock."""
    return (daemon.home / "daemon.log").read_text().count("remediator paused: the clock jumped")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path, budget=2) as place:
        yield place


def test_the_clock_steps_forward_and_back(place: Watched) -> None:
    place.daemon.start()
    place.step(10)  # less than a jump
    place.act("one")
    place.step(-10)
    place.act("two")
    place.deliver("three")
    place.waits("three", "budget")
    assert place.pauses() == []
    for number, (ahead, seen) in enumerate([(7200, "+2h"), (0, "-2h"), (-7200, "-2h")], start=1):
        place.step(ahead)
        place.daemon.until(lambda n=number: len(place.pauses()) == n, "it pauses")  # type: ignore[misc]
        assert seen in place.pauses()[-1].replace("-1h59m", "-2h").replace("+1h59m", "+2h")
        place.daemon.until(lambda n=number: place.told() == n, "people are told")  # type: ignore[misc]
        late = f"late{number}"
        place.deliver(late)
        place.waits(late, "paused")
        quiet(place, 1)
        if ahead <= 0:  # two actions were done within this very hour, whatever the clock had said
            place.resume()
            place.waits(late, "budget")
            place.waits("three", "budget")
    assert place.grown() == ["one", "two"]
    place.whole()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Postgres, WallClock]]:
    """A PostgreSQL server whose clock can be set."""
    place = temporary("clock")
    place.chmod(0o755)
    clock = WallClock(place / "ahead")
    with Postgres(env=clock.env) as server:
        yield server, clock
        server.crash()  # a shutdown in good order takes long where the clock has been set
    remove(place)


def test_the_clock_of_the_database_steps_under_two_replicas(
    tmp_path: Path, shared: tuple[Postgres, WallClock]
) -> None:
    """Who waits waits for as long as before: `give_up` is 12h."""
    server, clock = shared
    store = {"url": server.dsn()}
    with Watched(tmp_path / "one", clock, budget=1, store=store) as place, ExitStack() as stack:
        policies = place.daemon.home / "policies"
        other = Installation(
            tmp_path / "two",
            {file.name: file.read_text() for file in policies.iterdir()},
            connections={"recorder": {"kind": "http", "url": place.provider.url}},
            plugins=["tests.crash.plugin"],
            store=store,
        )
        stack.callback(other.close)
        place.daemon.start()
        other.start()
        place.act("first")
        place.deliver("patient")
        place.waits("patient", "budget")
        for number, (ahead, seen) in enumerate([(13, "+1"), (0, "-1")], start=1):
            place.step(ahead * 3600)
            place.daemon.until(lambda n=number: len(place.pauses()) == n, "it pauses")  # type: ignore[misc]
            assert f"the clock jumped by {seen}" in place.pauses()[-1]
            place.deliver(f"late{number}")
            place.waits(f"late{number}", "paused")
            place.waits("patient", "budget")  # had it been due, it would have given up before that
            place.daemon.until(
                lambda n=number: place.told() + told(other) == n,  # type: ignore[misc]
                "people are told",
            )
            place.resume()
            if ahead:
                place.ends("late1")  # what was done by the old time lies 13 hours behind
            else:
                place.waits("late2", "budget")
        assert place.grown() == ["first", "late1"]
        assert place.told() + told(other) == len(place.pauses()) == 2
        place.whole()
