"""Two daemons on one PostgreSQL: any takes any alert, each run acts once, and one can die."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.installation import Installation, firing
from tests.crash.provider import Provider
from tests.crash.scene import LEASE, scene
from tests.crash.test_kill import ESCALATION, POLICY
from tests.servers.postgres import Postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def daemons(
    tmp_path: Path, server: Postgres, name: str, provider: Provider, count: int, **settings: Any
) -> list[Installation]:
    with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    policy = POLICY.replace("for: 1s\n", "").replace(
        "escalate:", "limits: {{budget: [100 per 1h], concurrent: 6, open_runs: 100}}\nescalate:"
    )
    made = []
    for number in range(count):
        home = tmp_path / f"replica{number}"
        home.mkdir()
        made.append(
            Installation(
                home,
                {
                    "grow.yaml": policy.format(url=provider.url),
                    "escalation.yaml": ESCALATION,
                    "limits.yaml": "global: {budget: [100 per 1h], concurrent: 6}\n",
                },
                store={"url": server.dsn(dbname=name)},
                connections={"recorder": {"kind": "http", "url": provider.url}},
                plugins=["tests.crash.plugin"],
                **settings,
            )
        )
    return made


@pytest.mark.slow
def test_each_acts_once_and_one_takes_over_from_the_dead(tmp_path: Path, server: Postgres) -> None:
    count = 10
    with Provider(slow=0.5) as provider, ExitStack() as stack:
        one, two = (stack.enter_context(one) for one in daemons(tmp_path, server, "over", provider, 2))
        one.start(wait=False)  # both at once: one makes the tables, the other waits for it
        two.start()
        one.until(one._ready, "the first is ready")
        for number in range(count):  # as two peers of an Alertmanager deliver, to whichever
            assert one.post(firing(queue=f"q{number}")) == 200
            assert two.post(firing(queue=f"q{number}")) == 200
        one.kill()
        killed = time.monotonic()
        two.until(
            lambda: len(two.runs()) == count and all(run["outcome"] for run in two.runs()),
            "the other ends every run",
            seconds=60,
        )
        took = time.monotonic() - killed
        assert provider.twice() == []
        assert provider.collisions == []
        grown = [call["name"] for call in provider.calls]
        assert sorted(grown) == sorted(set(grown))
        assert len(two.get("alerts", limit=100)["items"]) == count
        assert two.get("audit/verify")["changed"] == []
        assert took < 50  # the lease of what the first had claimed, and the landing time


def test_a_pause_on_one_holds_on_the_other_within_a_second(tmp_path: Path, server: Postgres) -> None:
    with Provider() as provider, ExitStack() as stack:
        one, two = (stack.enter_context(one) for one in daemons(tmp_path, server, "pause", provider, 2))
        one.start()
        two.start()
        paused = one.http.post("/api/v1/control/pause", json={"reason": "drill"})
        assert paused.status_code < 300, paused.text
        assert two.post(firing(queue="held")) == 200
        assert one.post(firing(queue="held2")) == 200
        two.until(
            lambda: [run["reason"] for run in two.runs()] == ["paused", "paused"], "both wait", seconds=10
        )
        assert provider.calls == []


def test_work_and_policies_are_shared_at_once(tmp_path: Path, server: Postgres) -> None:
    """What one takes and cannot do itself, and what it loads, the other knows without looking for it."""
    with Provider(slow=4) as provider, ExitStack() as stack:
        made = daemons(tmp_path, server, "hints", provider, 2, engine={"workers": 1})
        one, two = (stack.enter_context(one) for one in made)
        two.config.write_text(two.config.read_text().replace("reload: 200ms", "reload: 60s"))
        one.start()
        two.start()
        assert one.post(firing(queue="a"), firing(queue="b")) == 200
        one.until(lambda: len(provider.calls) == 2, "both are being acted on", seconds=3)
        assert provider.under_way == {"a": 1, "b": 1}
        grow = one.home / "policies" / "grow.yaml"
        before = two.get("policies")["revision"]
        grow.write_text(grow.read_text().replace("add: 2", "add: 1"))
        one.until(lambda: one.get("policies")["revision"] != before, "one has the new set")
        changed = time.monotonic()
        one.until(lambda: two.get("policies")["revision"] != before, "the other has it too")
        assert time.monotonic() - changed < 1
        two.until(lambda: all(run["outcome"] for run in two.runs()), "all end", seconds=30)
        assert [run["outcome"] for run in two.runs()] == ["succeeded", "succeeded"]


@pytest.mark.slow
def test_an_outcome_is_kept_while_the_store_is_away_for_longer_than_a_lease(tmp_path: Path) -> None:
    """Two replicas lose the server while one of them calls; when it is back the outcome is written before
    anyone looks at the run."""
    with Postgres() as server:
        with scene(tmp_path, server.dsn(), 2) as it:
            it.fleet.start()
            one, other = it.fleet.replicas
            it.post(one, "kick", "t1")
            one.until(lambda: bool(it.witness.in_flight), "one of them calls")
            server.stop()
            it.witness.gate.set()
            logs = [replica.home / "daemon.log" for replica in it.fleet.replicas]
            one.until(lambda: any("outcome.kept" in log.read_text() for log in logs), "the outcome is kept")
            assert one.post(firing(queue="later")) == 503
            away = time.monotonic()
            one.until(lambda: time.monotonic() - away > LEASE + 1, "the lease is over")
            server.start()
            one.until(
                lambda: one._ready() and [run["outcome"] for run in one.runs()] == ["succeeded"], "it ends"
            )
            run = it.run(other)
            assert [intent["outcome"] for intent in run["intents"]] == ["applied"]
            assert "action.unknown" not in [event["kind"] for event in run["events"]]
            assert len(it.witness.arrivals) == 1
