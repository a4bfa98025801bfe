"""A run that is started by hand may be asked for again: there is one, whatever became of the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remediator.contracts import Delivery, Match, Receipt
from remediator.errors import StoreUnavailable
from tests.cli.program import Program
from tests.web.served import Running
from tests.web.test_api import problem

START = {"policy": "hold-still", "labels": {"instance": "db"}, "reason": "drill", "key": "one"}


class LosesAccepts:
    """The store; the next so many deliveries are committed, and the answers to that are lost."""

    def __init__(self, store: Any, losing: int) -> None:
        self._store = store
        self.losing = losing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def accept(self, delivery: Delivery, match: Match) -> Receipt:
        receipt: Receipt = await self._store.accept(delivery, match)
        if self.losing:
            self.losing -= 1
            raise StoreUnavailable("the store did not answer within 2s; try again")
        return receipt


def started(running: Running) -> list[dict[str, Any]]:
    with running.client() as client:
        items: list[dict[str, Any]] = client.get("/api/v1/runs").json()["items"]
    return items


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def episodes(running: Running) -> int:
    with running.client() as client:
        return len(client.get("/api/v1/alerts").json()["items"])


def test_a_start_whose_answer_was_lost_is_repeated_with_its_key(fresh: Running) -> None:
    fresh.daemon.store = LosesAccepts(fresh.daemon.store, 1)  # type: ignore[assignment]
    with fresh.client() as client:
        detail = problem(client.post("/api/v1/runs", json=START), 503)
        assert "may have been started" in detail
        assert "same key" in detail
        (run,) = started(fresh)
        for _ in range(2):
            again = client.post("/api/v1/runs", json=START)
            assert (again.status_code, again.json()["id"]) == (201, run["id"])
    assert len(started(fresh)) == 1
    assert episodes(fresh) == 1


def test_another_request_with_the_key_is_another_run(fresh: Running) -> None:
    with fresh.client() as client:
        asked = [
            START,
            {**START, "labels": {"instance": "other"}},
            {**START, "key": "two"},
            {**START, "key": ""},
        ]
        for one in asked:
            assert client.post("/api/v1/runs", json=one).status_code == 201
    assert episodes(fresh) == len(asked)  # all on one target, so that one run stands for them


def test_a_key_keeps_its_run_when_that_has_ended(fresh: Running) -> None:
    """And what stands for it in the list of alerts ends with it, and does not fire for ever."""

    def alerts(firing: bool) -> list[str]:
        items = client.get("/api/v1/alerts", params={"firing": firing}).json()["items"]
        return [one["status"] for one in items]

    with fresh.client() as client:
        first = client.post("/api/v1/runs", json=START).json()["id"]
        assert alerts(firing=True) == ["firing"]
        assert (
            client.post(f"/api/v1/runs/{first}/cancel", json={"reason": "drill is over"}).status_code == 200
        )
        eventually(lambda: alerts(firing=True) == [])
        assert alerts(firing=False) == ["closed"]
        again = client.post("/api/v1/runs", json=START)
        assert (again.status_code, again.json()["id"], again.json()["outcome"]) == (201, first, "cancelled")
        other = client.post("/api/v1/runs", json={**START, "key": "two"}).json()["id"]
        assert other != first
    assert len(started(fresh)) == 2
    assert episodes(fresh) == 2


def test_the_command_repeats_by_itself_and_else_says_how(fresh: Running, tmp_path: Path) -> None:
    program = Program(tmp_path, {})
    words = (
        "runs",
        "start",
        "hold-still",
        "--set",
        "instance=db",
        "--reason",
        "drill",
        "--server",
        fresh.url,
    )
    fresh.daemon.store = losing = LosesAccepts(fresh.daemon.store, 1)  # type: ignore[assignment]
    said = program(*words, "-o", "json")
    assert said.code == 0, said.err
    assert [run["id"] for run in started(fresh)] == [said.json["id"]]
    losing.losing = 3
    failed = program(*words)
    assert failed.code == 3
    key = failed.err.strip().rpartition("--key ")[2]
    runs = len(started(fresh))
    again = program(*words, "--key", key, "-o", "json")
    assert again.code == 0, again.err
    assert len(started(fresh)) == runs
    assert episodes(fresh) == 2
