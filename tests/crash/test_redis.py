"""Redis killed, stopped, restarted empty, while runs are admitted, act and are verified: nothing changes."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.crash.installation import TOKEN, Installation, firing
from tests.crash.provider import Provider
from tests.crash.test_kill import ESCALATION, POLICY
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

LIMITED = {"am": {"kind": "alertmanager", "auth": {"bearer": TOKEN}, "limit": "5000 per 1m"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def installation(home: Path, provider: Provider, redis: Redis, store: str) -> Installation:
    home.mkdir()
    policy = POLICY.replace("for: 1s\n", "").replace(
        "escalate:", "limits: {{budget: [100 per 1h], concurrent: 4, open_runs: 100}}\nescalate:"
    )
    return Installation(
        home,
        {
            "grow.yaml": policy.format(url=provider.url),
            "escalation.yaml": ESCALATION,
            "limits.yaml": "global: {budget: [100 per 1h], concurrent: 4}\n",
        },
        store={"url": store},
        redis={"url": redis.url},
        senders=LIMITED,
        connections={"recorder": {"kind": "http", "url": provider.url}},
        plugins=["tests.crash.plugin"],
    )


class Trouble(threading.Thread):
    """Stops, continues, kills and restarts Redis, round after round."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(daemon=True)
        self.redis = redis
        self.over = threading.Event()
        self.rounds = 0

    def run(self) -> None:
        process = self.redis.process
        while not self.over.is_set():
            process.signal(signal.SIGSTOP)
            self.over.wait(0.7)
            process.signal(signal.SIGCONT)
            self.over.wait(0.3)
            process.kill()
            self.over.wait(0.4)
            process.start()
            self.over.wait(0.4)
            self.rounds += 1


def test_two_replicas_act_once_whatever_becomes_of_redis(
    tmp_path: Path, server: Postgres, redis: Redis
) -> None:
    count = 12
    with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE comfort")
    store = server.dsn(dbname="comfort")
    with Provider(slow=0.4) as provider, ExitStack() as stack:
        one = stack.enter_context(installation(tmp_path / "one", provider, redis, store))
        two = stack.enter_context(installation(tmp_path / "two", provider, redis, store))
        one.start()
        two.start()
        trouble = Trouble(redis)
        trouble.start()
        try:
            for number in range(count):  # as two peers of an Alertmanager deliver
                alert = firing(queue=f"q{number}")
                assert [one.post(alert), two.post(alert)] == [200, 200]
                time.sleep(0.1)
            one.until(
                lambda: len(one.runs()) == count and all(run["outcome"] for run in one.runs()),
                "every run ends",
                seconds=60,
            )
            one.until(lambda: trouble.rounds >= 2, "Redis came and went twice")
        finally:
            trouble.over.set()
            trouble.join(15)
        assert {run["outcome"] for run in one.runs()} == {"succeeded"}
        assert sorted(call["name"] for call in provider.calls) == sorted(f"q{n}" for n in range(count))
        assert provider.twice() == []
        assert provider.collisions == []
        assert len(two.get("alerts", limit=100)["items"]) == count
        assert two.get("audit/verify")["changed"] == []
        assert one.http.get("/readyz").status_code == two.http.get("/readyz").status_code == 200


def test_a_redis_that_hangs_makes_no_alert_wait(tmp_path: Path, redis: Redis) -> None:
    """Measured in turn, so that what else the machine does falls on both."""
    with Provider() as provider:
        home = tmp_path / "one"
        with installation(home, provider, redis, f"sqlite:///{home}/remediator.db") as daemon:
            daemon.start()
            took: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(8):
                hangs = turn % 2 == 1
                redis.process.signal(signal.SIGSTOP if hangs else signal.SIGCONT)
                for number in range(40):
                    begun = time.perf_counter()
                    assert daemon.post(firing("Other", n=f"{turn}-{number}")) == 200
                    took[hangs].append(time.perf_counter() - begun)
            redis.process.signal(signal.SIGCONT)
            well, hung = (statistics.median(took[hangs]) for hangs in (False, True))
            assert hung < 2 * well, f"{hung * 1000:.1f} ms instead of {well * 1000:.1f} ms"
            worst = max(took[True])
            assert worst < 0.4, f"one waited {worst:.2f} s"  # less than one exchange with Redis may take


def test_a_redis_that_is_not_there_is_said_and_nothing_else(tmp_path: Path, redis: Redis) -> None:
    redis.process.kill()
    with Provider() as provider:
        home = tmp_path / "one"
        with installation(home, provider, redis, f"sqlite:///{home}/remediator.db") as daemon:
            daemon.start()
            assert daemon.post(firing(queue="jobs")) == 200
            daemon.until(lambda: [run["outcome"] for run in daemon.runs()] == ["succeeded"], "it acts")
            assert "remediator_redis_up 0.0" in daemon.http.get("/metrics").text
            daemon.until(lambda: "redis.lost" in daemon.process.log.read_text(), "the log says so")  # type: ignore[union-attr]
            redis.process.start()
            daemon.until(
                lambda: "remediator_redis_up 1.0" in daemon.http.get("/metrics").text, "it is found again"
            )
