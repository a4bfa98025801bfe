"""The wall clock steps under a running daemon: it pauses, says so, tells people, and exceeds no budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, quiet
from tests.servers.process import Missing

PLACES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib")


def library() -> Path:
    """libfaketime's, for programs with threads."""
    for place in PLACES:
        found = Path(place) / "faketime" / "libfaketimeMT.so.1"
        if found.exists():
            return found
    raise Missing("libfaketime is not installed; apt-get install libfaketime")


class Watched(Scene):
    """A daemon whose wall clock is ahead of ours by what a file says; time itself goes on as ever."""

    def __init__(self, home: Path, **more: int) -> None:
        super().__init__(home, **more)
        self._ahead = home / "ahead"
        self.step(0)
        self.daemon.env = {
            "LD_PRELOAD": str(library()),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._ahead),
        }

    def step(self, seconds: int) -> None:
        fresh = self._ahead.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._ahead)  # at once: half a number is read as another one

    def pauses(self) -> list[str]:
        found = self.daemon.get("audit", kind="control.paused", oldest_first=True)["items"]
        return [event["observed"] for event in found]

    def told(self) -> int:
        """How many messages went out about a jump of the clock."""
        return self.log().count("remediator paused: the clock jumped")

    def resume(self) -> None:
        answer = self.daemon.http.post("/api/v1/control/resume", json={"reason": "clock checked"})
        assert answer.status_code == 200, answer.text

    def log(self) -> str:
        return (self.daemon.home / "daemon.log").read_text()

    def waits(self, queue: str, reason: str) -> None:
        def so() -> bool:
            runs = [run for run in self.daemon.runs() if run["target"] == f"recorder:{queue}"]
            return [(run["outcome"], run["reason"]) for run in runs] == [(None, reason)]

        self.daemon.until(so, f"{queue} waits: {reason}")


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
