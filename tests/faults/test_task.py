"""A fault of the program in one of the daemon's tasks: it goes on, and nobody can overlook it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from remediator import metrics
from remediator.engine.task import CLOCK, SOUND, Task
from remediator.errors import StoreUnavailable
from tests.cli.program import Answer, Program
from tests.faults.scene import Scene
from tests.simulation.loop import SimulatedLoop


class Faulty(Scene):
    """A scene whose daemon has a fault in one method of its store while `flag` is there."""

    def __init__(self, home: Path, method: str, patience: float = 60) -> None:
        super().__init__(home)
        self.flag = home / "faulty"
        words = ("--faulty", method, "--flag", str(self.flag), "--patience", str(patience))
        self.daemon.program = ("tests.crash.daemon", str(self.daemon.config), *words)
        self._program = Program(home, {})

    def readyz(self) -> tuple[int, str]:
        answer = self.daemon.http.get("/readyz")
        return answer.status_code, answer.text

    def status(self) -> Answer:
        return self._program("status", "-o", "json", "--config", str(self.daemon.config))

    def failures(self, task: str) -> float:
        name = f'remediator_task_failures_total{{task="{task}"}}'
        return self.metric(name)


def test_a_task_that_fails_stops_nothing_else_and_goes_on(tmp_path: Path) -> None:
    with Faulty(tmp_path, "seal") as place:
        place.daemon.start()
        assert place.readyz() == (200, "ready\n")
        assert place.failures("seal") == 0
        place.flag.touch()
        place.daemon.until(lambda: place.failures("seal") >= 2, "its turn fails")
        status, said = place.readyz()
        assert status == 200
        assert said.startswith("ready\nits seal task failed ")
        assert "TypeError" in said
        assert place.metric('remediator_task_failing{task="seal"}') == 1
        place.act("meanwhile")
        shown = place.status()
        assert shown.code == 1
        assert "its seal task failed" in shown.json["daemon"]["said"][0]
        log = (tmp_path / "daemon.log").read_text()
        assert "task.failed" in log
        assert "in answer" in log, "the traceback"
        place.flag.unlink()
        place.daemon.until(lambda: place.readyz() == (200, "ready\n"), "it is well again", 90)
        assert place.metric('remediator_task_failing{task="seal"}') == 0
        assert (place.status().code, place.status().json["daemon"]) == (0, {"ready": True, "said": []})
        place.whole()


def test_without_its_worker_it_is_not_ready_and_what_it_took_is_done_after(tmp_path: Path) -> None:
    with Faulty(tmp_path, "claim") as place:
        place.daemon.start()
        place.flag.touch()
        place.deliver("taken")  # begun by whoever took it in; then its worker looks for more
        place.unready("its worker task failed")
        shown = place.status()
        assert (shown.code, shown.json["daemon"]["ready"]) == (1, False)
        place.deliver("kept")
        place.daemon.until(lambda: place.failures("worker") >= 3, "it has tried again")
        assert "kept" not in place.grown()
        place.flag.unlink()
        place.ends("kept", seconds=90)
        place.back(90)
        place.whole()


def test_where_a_vital_task_fails_for_long_the_process_ends(tmp_path: Path) -> None:
    with Faulty(tmp_path, "claim", patience=0) as place:
        process = place.daemon.start()
        place.flag.touch()
        place.deliver("kept")
        assert process.wait(60) == 1
        assert "task.broken" in process.tail(60)
        assert place.status().code == 3  # it holds nothing back, but nobody answers
        place.flag.unlink()
        place.daemon.start()
        place.ends("kept")
        place.whole()


# ------------------------------------------------------------ one task, by virtual time


class Turns:
    """Work whose first turns fail, each with the error given for it."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def play(seconds: float, task: Task, begin: str, *args: object) -> None:
    """Let a task run for so long, by virtual time."""
    loop = SimulatedLoop(Random(1))

    async def begun() -> None:
        getattr(task, begin)(*args)
        loop.call_later(seconds, loop.stop)

    loop.spawn(loop.outside, begun())
    loop.run_forever()
    loop.end()


def test_it_waits_longer_after_each_fault_in_a_row() -> None:
    turns = Turns(*[TypeError("x")] * 9)
    before = metrics.TASK_FAILURES.labels("one")._value.get()
    task = Task("one")
    play(400, task, "every", 1.0, turns)
    waits = [round(later - earlier) for earlier, later in zip(turns.at[:9], turns.at[1:10], strict=True)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert metrics.TASK_FAILURES.labels("one")._value.get() - before == 9


def test_a_store_that_is_away_is_no_fault() -> None:
    turns = Turns(*[StoreUnavailable("away")] * 5)
    said: list[Exception] = []
    play(8, Task("two", said.append), "every", 1.0, turns)
    assert said == []
    assert [round(at) for at in turns.at[:8]] == list(range(8))


def test_what_never_returns_is_begun_anew_and_well_after_a_while() -> None:
    begun: list[float] = []
    seen: list[str] = []
    task = Task("three")

    async def work() -> None:
        loop = asyncio.get_running_loop()
        begun.append(loop.time())
        if len(begun) < 3:
            raise TypeError("x")
        for moment in (SOUND - 1, SOUND + 1):
            loop.call_later(moment, lambda: seen.append(task.fault))
        await asyncio.Event().wait()

    play(60, task, "forever", work)
    assert [round(at) for at in begun] == [0, 1, 3]
    assert seen == [
        "its three task failed 2 times in a row, last with TypeError; see task.failed in the log",
        "",
    ]


@pytest.mark.parametrize(("name", "ends"), [(CLOCK, True), ("gauges", False)])
def test_only_a_vital_task_ends_the_process_and_only_after_a_minute(name: str, ends: bool) -> None:
    task = Task(name)
    hopeless: list[bool] = []

    async def work() -> None:
        raise TypeError("x")

    async def look() -> None:
        for seconds in (30.0, 29.0, 2.0):
            await asyncio.sleep(seconds)
            hopeless.append(task.hopeless())

    loop = SimulatedLoop(Random(1))

    async def begun() -> None:
        task.every(1.0, work)
        await look()
        loop.stop()

    loop.spawn(loop.outside, begun())
    loop.run_forever()
    loop.end()
    assert hopeless == [False, False, ends]
