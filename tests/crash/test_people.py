"""People are told by real daemons, through Apprise: across kills, replicas and a database that is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.program import Program
from tests.crash.installation import Installation, firing
from tests.crash.provider import Provider
from tests.e2e.pager import Pager
from tests.servers.postgres import Postgres

POLICY = """
name: grow
severity: P2
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.queue}}", add: 2, max: 1, url: "{url}"}}
limits: {{cooldown: 0s, per_target: [100 per 1h], budget: [100 per 1h], concurrent: 9, open_runs: 50}}
escalate: on-call
"""
"""There is nothing to do, ever: so a person is called."""
ONE_STEP = "chains: {on-call: [{after: 0m, notify: [log, person]}]}\n"
STEPS = """
chains:
  on-call:
    - {after: 0s, notify: [person]}
    - {after: 2s, notify: [person]}
    - {after: 4s, notify: [person], if: "severity <= P2"}
    - {after: 5s, notify: [person], if: "severity <= P1"}
"""


def house(
    home: Path, provider: Provider, pager: Pager, chain: str = ONE_STEP, **settings: Any
) -> Installation:
    home.mkdir(exist_ok=True)
    return Installation(
        home,
        {"grow.yaml": POLICY.format(url=provider.url), "escalation.yaml": chain},
        connections={"recorder": {"kind": "http", "url": provider.url}},
        plugins=["tests.crash.plugin"],
        notifiers=pager.notifiers,
        **settings,
    )


def titles(pager: Pager, word: str) -> list[str]:
    return [one["title"] for one in pager.messages if word in one["title"]]


def sent(daemon: Installation, subject: str) -> int:
    """How many such messages are recorded as sent to a notifier; none where the store is too slow to say."""
    answer = daemon.http.get("/api/v1/audit", params={"kind": "message.sent", "limit": 500})
    found = answer.json()["items"] if answer.status_code == 200 else []
    return sum(subject in one["data"]["subject"] and one["data"]["notifiers"] == ["person"] for one in found)


def test_a_call_that_was_sent_and_not_recorded_is_sent_again(tmp_path: Path) -> None:
    with (
        Provider() as provider,
        Pager() as pager,
        house(tmp_path, provider, pager) as daemon,
    ):
        daemon.start("outbox.after_send")
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(20), "it never sent the message"
        assert len(pager.messages) == 1
        daemon.start()
        daemon.until(lambda: sent(daemon, "DECLARED") == 1, "it is recorded")
        assert len(titles(pager, "DECLARED")) == 2  # at least once, and here twice


@pytest.mark.parametrize("failpoint", ["incident.before_commit", "incident.after_commit"])
def test_killed_around_the_step_it_is_told_once(tmp_path: Path, failpoint: str) -> None:
    with (
        Provider() as provider,
        Pager() as pager,
        house(tmp_path, provider, pager) as daemon,
    ):
        daemon.start(failpoint)
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(20), f"it never reached {failpoint}"
        assert pager.messages == []
        daemon.start()
        daemon.until(lambda: sent(daemon, "DECLARED") == 1, "the person is told")
        assert daemon.post(firing(queue="other")) == 200
        daemon.until(lambda: sent(daemon, "recorder:other") == 1, "and of the next one")
        assert Counter(titles(pager, "DECLARED")) == {
            "INCIDENT DECLARED - P2: recorder:jobs": 1,
            "INCIDENT DECLARED - P2: recorder:other": 1,
        }


def test_a_person_acknowledges_and_hears_of_the_end(tmp_path: Path) -> None:
    chain = ONE_STEP.replace("}]}", "}, {after: 1h, notify: [person]}]}")
    with Provider() as provider, Pager() as pager, house(tmp_path, provider, pager, chain) as daemon:
        remediator = Program(tmp_path, {})

        def ask(*words: str, code: int = 0) -> Any:
            answer = remediator(*words, "-o", "json", "--config", str(daemon.config))
            assert answer.code == code, answer.err
            return answer.json if code == 0 else answer.err

        daemon.start()
        alert = firing(queue="jobs")
        assert daemon.post(alert) == 200
        daemon.until(lambda: len(titles(pager, "DECLARED")) == 1, "the person is told")
        (listed,) = ask("incidents", "list", "--open")
        assert (listed["id"], listed["state"], listed["called"]) == (1, "open", ["person"])
        body = pager.messages[0]["message"]
        assert "Service: recorder:jobs" in body
        assert "Impact: unknown" in body
        assert "remediator incidents ack 1" in body
        assert metric(daemon, 'remediator_open_incidents{severity="P2"}') == 1
        acked = ask("incidents", "ack", "1", "--comment", "on it")
        assert (acked["state"], acked["acknowledged_by"]) == ("acknowledged", "local")
        assert "acknowledged already, by local" in ask("incidents", "ack", "1", code=1)
        assert daemon.http.post("/api/v1/incidents/1/ack", json={}).status_code == 409
        assert daemon.post({**alert, "status": "resolved"}) == 200
        daemon.until(lambda: len(titles(pager, "RESOLVED")) == 1, "the person hears of the end")
        shown = ask("incidents", "show", "1")
        assert shown["state"] == "resolved"
        assert [one["outcome"] for one in shown["runs"]] == ["nothing_to_do"]
        kinds = [one["kind"] for one in shown["events"]]
        assert kinds[0] == "incident.declared"
        assert {"incident.escalated", "incident.acknowledged", "incident.resolved", "message.sent"} <= set(
            kinds
        )
        said = remediator("alerts", "explain", "1", "--config", str(daemon.config)).out
        assert "Incident 1: P2, resolved" in said
        daemon.until(lambda: metric(daemon, 'remediator_open_incidents{severity="P2"}') == 0, "it is over")
        assert daemon.get("runs/1")["incidents"] == [1]


def metric(daemon: Installation, name: str) -> float:
    for line in daemon.http.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"there is no metric {name}")


@pytest.mark.slow
def test_three_replicas_tell_each_step_once_and_page_without_their_store(tmp_path: Path) -> None:
    count = 4
    with Postgres() as server, Provider() as provider, Pager() as pager, ExitStack() as stack:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
            connection.execute("CREATE DATABASE people")
        daemons = [
            stack.enter_context(
                house(
                    tmp_path / f"replica{number}",
                    provider,
                    pager,
                    STEPS,
                    store={"url": server.dsn(dbname="people")},
                    notifications={"page_without_store": "2s", "page_again": "1h"},
                )
            )
            for number in range(3)
        ]
        for daemon in daemons:
            daemon.start(wait=False)
        for daemon in daemons:
            daemon.until(daemon._ready, "it is ready", 120)
        one, killed, _ = daemons
        for number in range(count):
            accepted(daemons[number % 3], f"q{number}")
        one.until(settled(pager, one, 3 * count), "every step is told", 120)
        killed.kill()
        accepted(one, "last")
        one.until(settled(pager, one, 3 * (count + 1)), "the others go on", 120)
        targets = [f"recorder:q{number}" for number in range(count)] + ["recorder:last"]
        told = Counter(titles(pager, "INCIDENT"))
        assert told == {f"INCIDENT DECLARED - P2: {target}": 1 for target in targets} | {
            f"INCIDENT ESCALATED - P2: {target}": 2 for target in targets
        }

        living = [daemon for daemon in daemons if daemon is not killed]
        # On a busy machine the store may have been too slow for two seconds before: that is over first.
        one.until(lambda: not any(without_store(pager, daemon) for daemon in living), "it has its store", 120)
        before = len(pager.messages)
        server.stop()
        one.until(
            lambda: all(without_store(pager, daemon) for daemon in living),
            "each that lives pages itself",
            120,
        )
        assert sum("STORE GONE" in page["title"] for page in pager.messages[before:]) == len(living)
        server.start()
        one.until(
            lambda: not any(without_store(pager, daemon) for daemon in living),
            "and says when it is back",
            120,
        )
        assert Counter(titles(pager, "INCIDENT")) == told


def accepted(daemon: Installation, queue: str) -> None:
    """Deliver an alert as senders do: again, until it is taken. A slow store may refuse one."""
    alert = firing(queue=queue)
    daemon.until(lambda: daemon.post(alert) == 200, f"{queue} is taken", 60)


def without_store(pager: Pager, daemon: Installation) -> bool:
    """Whether the last that this very process has said of its store is that it is gone."""
    assert daemon.process is not None
    own = [title for title in titles(pager, "STORE ") if title.endswith(f":{daemon.process.pid}")]
    return bool(own) and "GONE" in own[-1]


def settled(pager: Pager, daemon: Installation, count: int) -> Callable[[], bool]:
    """Whether so many calls have come, and all that was sent is recorded."""
    return lambda: len(titles(pager, "INCIDENT")) >= count and sent(daemon, "INCIDENT") >= count
