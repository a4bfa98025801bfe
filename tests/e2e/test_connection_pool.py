"""Connection pool above 80%: the shipped policy ends long queries, the gentle rung first.

Everything is real: a PostgreSQL whose pool is full of stuck sessions, a Prometheus whose rule fires on it,
an Alertmanager that tells the daemon, repeats itself and resolves, and the command line that is asked
afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from demo.exporter import exporter
from demo.sessions import DATABASE, HEALTHY, IDLE, MAX_CONNECTIONS, RUNNING, StuckSessions
from tests.cli.program import Answer
from tests.e2e.house import AM, House, shipped
from tests.servers.alertmanager import Alertmanager, webhook_config
from tests.servers.postgres import Postgres
from tests.servers.prometheus import Prometheus

POLICY = "connection-pool-cancel-long-queries"
METRIC = "postgres_connections_used_percent"
RULE = {
    "alert": "PostgresConnectionPoolHigh",
    "expr": f"{METRIC} > 80",
    "labels": {"severity": "critical", "database": DATABASE},
    "annotations": {"value": "{{ $value }}"},
}
SENT = 'remediator_alerts_total{result="%s",sender="alertmanager-prod"}'


@dataclass
class Story:
    """What there is to see once it is over."""

    house: House
    sessions: StuckSessions
    run: dict[str, Any]

    def ask(self, *words: str | int) -> Answer:
        return self.house.remediator(*words)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One long night, told once; the tests ask about it."""
    with ExitStack() as running:
        postgres = running.enter_context(Postgres(max_connections=MAX_CONNECTIONS))
        sessions = running.enter_context(StuckSessions(postgres))
        policy = shipped(
            POLICY,
            verify__after="500ms",
            verify__within="3s",
            verify__every="1s",
            verify__stable_for="1s",
        ).replace("longer_than: 5m", "longer_than: 2s")
        house = running.enter_context(
            House(
                tmp_path_factory.mktemp("pool"),
                {POLICY: policy},
                connections={"orders": {"kind": "postgres", "dsn": postgres.dsn("remediator", DATABASE)}},
            )
        )
        hook = webhook_config(f"{house.url}/webhooks/alertmanager-prod", bearer=AM, repeat_interval="2s")
        alertmanager = running.enter_context(Alertmanager(hook))
        assert sessions.share() > 80
        again = threading.Event()  # and so it looks to Prometheus until Alertmanager has repeated itself
        target = running.enter_context(
            exporter(METRIC, lambda: sessions.share() if again.is_set() else max(sessions.share(), 81))
        )
        running.enter_context(
            Prometheus(rules=[RULE], targets=[target], alertmanager=alertmanager.url, interval="250ms")
        )
        house.start()
        house.until(lambda: bool(house.runs()), "the rule fires and opens a run", 30)
        run = house.ended(seconds=30)
        house.until(lambda: house.metric(SENT % "repeated") > 0, "Alertmanager repeats itself", 30)
        again.set()
        house.until(lambda: house.metric(SENT % "resolved") > 0, "Alertmanager resolves", 30)
        house.until(lambda: not house.get("alerts", firing=True)["items"], "no alert fires any more")
        yield Story(house, sessions, run)


def test_the_gentle_rung_goes_first_and_the_pool_recovers(story: Story) -> None:
    assert (story.run["outcome"], story.run["reason"]) == ("succeeded", "healed")
    actions = [intent["plan"]["action"] for intent in story.run["intents"]]
    assert actions[0] == "postgres.cancel_queries"
    assert actions[-1] == "postgres.terminate_queries"
    assert actions == sorted(actions)  # never back to the gentle one, and both were needed
    assert story.sessions.share() < 80
    assert story.run["target"] == "postgres:orders"


def test_between_the_rungs_it_looked_whether_the_gentle_one_had_helped(story: Story) -> None:
    kinds = [event["kind"] for event in story.run["events"]]
    applied = [place for place, kind in enumerate(kinds) if kind == "action.applied"]
    failed = kinds.index("verify.failed")
    assert applied[0] < failed < applied[-1]
    assert kinds[-2:] == ["verify.healed", "run.succeeded"]


def test_only_what_was_stuck_was_ended_and_no_more_than_allowed(story: Story) -> None:
    assert story.sessions.harmed() == 0
    ended = [
        one["pid"]
        for intent in story.run["intents"]
        if intent["plan"]["action"] == "postgres.terminate_queries"
        for one in intent["evidence"]["sessions"]
    ]
    assert 0 < len(ended) == len(set(ended)) <= 20
    assert len(ended) <= RUNNING + IDLE
    # a chunk is at most ten sessions, and only the first one of an action counts in the budgets
    assert all(intent["plan"]["blast"]["amount"] <= 10 for intent in story.run["intents"])


def test_alertmanagers_repeats_created_nothing(story: Story) -> None:
    assert story.house.metric(SENT % "repeated") >= 1
    assert len(story.house.get("alerts")["items"]) == 1
    assert len(story.house.runs()) == 1
    assert story.house.metric(SENT % "accepted") == 1
    assert len({intent["created_at"] for intent in story.run["intents"]}) == len(story.run["intents"])


def test_alerts_explain_tells_it_from_beginning_to_end(story: Story) -> None:
    answer = story.ask("alerts", "explain", story.run["alert"])
    assert answer.code == 0
    said = answer.out
    first = said.splitlines()[0]
    assert POLICY in first
    assert "succeeded" in first or "healed" in first
    for word in ("PostgresConnectionPoolHigh", "postgres.cancel_queries", "postgres.terminate_queries"):
        assert word in said
    told = (
        "the alert arrived from alertmanager-prod",
        "not healed",
        "postgres.terminate",
        "verified: healed",
    )
    rest = said[said.index("What happened") :]
    order = [rest.index(words) for words in told]
    assert order == sorted(order)


def test_runs_show_names_target_plan_and_outcome(story: Story) -> None:
    answer = story.ask("runs", "show", story.run["id"])
    assert answer.code == 0
    for word in ("postgres:orders", "succeeded", "healed", "postgres.terminate_queries"):
        assert word in answer.out
    shown = story.ask("runs", "show", story.run["id"], "--output", "json").json
    assert [one["number"] for one in shown["intents"]] == list(range(len(story.run["intents"])))


def test_audit_query_and_verify(story: Story) -> None:
    answer = story.ask("audit", "query", "--run", story.run["id"], "--oldest-first", "-o", "json")
    assert answer.code == 0
    kinds = [event["kind"] for event in answer.json]
    assert kinds == [event["kind"] for event in story.run["events"]]
    assert kinds[0] == "run.created"
    end = time.monotonic() + 5
    while story.house.get("audit/verify")["unsealed"]:
        assert time.monotonic() < end, "the audit log is never sealed"
        time.sleep(0.1)
    verified = story.ask("audit", "verify", "-o", "json")
    assert verified.code == 0, verified.out
    head = verified.json["head"]
    assert story.ask("audit", "verify", "--head", head).code == 0
    assert story.ask("audit", "verify", "--head", "f" * len(head)).code == 1


def test_what_is_kept_of_queries_is_their_shape(story: Story) -> None:
    """The text of a query may hold what nobody should read in a log: literals are not kept."""
    told = story.run["intents"][0]["evidence"]["sessions"][0]
    assert (told["user"], told["application"], told["query"]) == (
        "checkout",
        "checkout",
        "SELECT pg_sleep(?)",
    )
    kept = (story.house.home / "daemon.log").read_text() + str(story.run)
    assert "pg_sleep(3600" not in kept


def test_the_healthy_sessions_are_all_there(story: Story) -> None:
    assert story.sessions.used() >= HEALTHY
