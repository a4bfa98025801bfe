"""Asked to stop: what is under way is finished or handed over, and nothing is lost or done twice.

And the hand on the lever: runs started by hand, pause and resume, by the command line beside the daemon.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.crash.installation import Installation
from tests.crash.provider import Provider
from tests.e2e.house import AM, House, recorded_alert, stamp

POLICY = """
name: grow
mode: enforce
from: [alertmanager-prod]
match: [alertname="QueueHigh"]
for: HOLD
remedies:
  - steps:
      - action: recorder.grow
        with: {connection: recorder, name: "${labels.queue}", add: 2, max: 10, url: "URL"}
      - action: recorder.grow
        with: {connection: recorder, name: "${labels.queue}", add: 1, max: 10, url: "URL"}
limits: {cooldown: 0s, per_target: [100 per 1h], budget: [1000 per 1h], concurrent: 9, open_runs: 100}
"""


@contextmanager
def installed(home: Path, provider: Provider, hold: str = "0s") -> Iterator[House]:
    """One daemon, not started; the provider outlives it."""
    policy = POLICY.replace("URL", provider.url).replace("HOLD", hold)
    with House(
        home,
        {"grow": policy},
        connections={"recorder": {"kind": "http", "url": provider.url}},
        plugins=["tests.crash.plugin"],
    ) as house:
        (home / "policies" / "limits.yaml").write_text("global: {budget: [1000 per 1h], concurrent: 9}\n")
        yield house


def terminate(house: Installation, within: float) -> int:
    """SIGTERM; its exit code."""
    assert house.process is not None
    house.process.signal(signal.SIGTERM)
    return house.process.wait(within)


def sizes(provider: Provider) -> list[int]:
    return [call["after"] for call in provider.calls]


# ---------------------------------------------------------------- while it acts


def test_a_slow_action_is_finished_and_recorded_and_the_next_process_goes_on(tmp_path: Path) -> None:
    with Provider(slow=0.8) as provider, installed(tmp_path, provider) as house:
        house.start()
        house.alertmanager(recorded_alert(alertname="QueueHigh", queue="jobs"))
        house.until(lambda: bool(provider.calls), "it is called")
        began = time.monotonic()
        assert terminate(house, 10) == 0
        assert 0.4 < time.monotonic() - began < 5  # it waited for the call, and for nothing else
        assert sizes(provider) == [3]
        assert provider.sizes == {"jobs": 3}
        assert house.log()[-1]["event"] == "stopped"

        shown = house.remediator("runs", "show", 1, "-o", "json").json
        (intent,) = shown["intents"]
        assert (intent["outcome"], intent["plan"]["after"]) == ("applied", {"size": 3})
        assert shown["outcome"] is None
        assert house.remediator("audit", "verify").code == 0

        house.start()
        run = house.ended()
        assert run["outcome"] == "succeeded"
        assert sizes(provider) == [3, 4]  # each step once
        assert provider.twice() == []
        assert house.remediator("audit", "verify").code == 0


def test_an_action_slower_than_the_grace_is_handed_over_as_unknown(tmp_path: Path) -> None:
    with Provider(slow=2.5) as provider, installed(tmp_path, provider) as house:
        house.configure("engine", shutdown_grace="200ms")
        house.start()
        house.alertmanager(recorded_alert(alertname="QueueHigh", queue="jobs"))
        house.until(lambda: bool(provider.calls), "it is called")
        assert terminate(house, 10) == 0
        assert provider.under_way == {"jobs": 1}  # it did not wait for the call

        provider.slow = 0.0
        house.until(lambda: provider.under_way == {"jobs": 0}, "the call lands, with nobody listening")
        house.start()
        run = house.ended()
        kinds = [event["kind"] for event in run["events"]]
        assert kinds.index("action.unknown") < kinds.index("action.reconciled")
        assert run["outcome"] == "succeeded"
        assert sizes(provider) == [3, 4]
        assert provider.twice() == []


def test_nothing_new_begins_once_it_is_asked_to_stop(tmp_path: Path) -> None:
    """A client that is slow with its request keeps the server open; the worker rests all the same."""
    with Provider() as provider, installed(tmp_path, provider, hold="2s") as house:
        house.configure("server", request_timeout="3s")
        house.start()
        with socket.create_connection(("127.0.0.1", house.port)) as slow:
            slow.sendall(
                b"POST /webhooks/alertmanager-prod HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                b"Authorization: Bearer " + AM.encode() + b"\r\n\r\n{"
            )
            house.alertmanager(recorded_alert(alertname="QueueHigh", queue="jobs"))
            began = time.monotonic()
            assert terminate(house, 10) == 0
            assert time.monotonic() - began > 2.2  # its hold ended meanwhile
        assert provider.calls == []
        house.start()
        assert house.ended()["outcome"] == "succeeded"


def test_a_hold_goes_on_from_where_the_alert_began(tmp_path: Path) -> None:
    """It has fired for almost all of the hour; a hold that began anew with the daemon would take another."""
    with Provider() as provider, installed(tmp_path, provider, hold="1h") as house:
        house.start()
        fired = int(time.time()) - 3600 + 4
        house.alertmanager(recorded_alert(alertname="QueueHigh", queue="jobs") | {"startsAt": stamp(fired)})
        assert terminate(house, 5) == 0
        house.start()
        assert house.ended()["outcome"] == "succeeded"
        admitted = [event["at"] for event in house.run()["events"] if event["kind"] == "run.admitted"]
        assert admitted[0] >= stamp(fired + 3600)


# ---------------------------------------------------------------- while it takes alerts


def test_every_alert_that_was_answered_200_is_there_after_the_restart(tmp_path: Path) -> None:
    with Provider() as provider, installed(tmp_path, provider, hold="1h") as house:
        house.start()
        taken: list[str] = []
        odd: list[int] = []
        stop = threading.Event()

        def send(sender: int) -> None:
            with httpx2.Client(base_url=house.url, timeout=5, trust_env=False) as http:
                for number in range(100_000):
                    names = [f"{sender}-{number}-{one}" for one in range(5)]
                    alerts = [recorded_alert(alertname="Other", name=name) for name in names]
                    body = json.dumps({"version": "4", "alerts": alerts})
                    try:
                        answer = http.post(
                            "/webhooks/alertmanager-prod",
                            content=body,
                            headers={"authorization": f"Bearer {AM}"},
                        )
                    except httpx2.TransportError:
                        return  # it has gone; a sender tries again later
                    if answer.status_code == 200:
                        taken.extend(names)
                    elif answer.status_code != 503:
                        odd.append(answer.status_code)
                    if stop.is_set():
                        return

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for one in senders:
            one.start()
        house.until(lambda: len(taken) > 500, "the load runs")
        assert terminate(house, 10) == 0
        stop.set()
        for one in senders:
            one.join(10)
        assert odd == []

        house.start()
        stored: set[str] = set()
        before: dict[str, Any] = {}
        while True:
            page = house.get("alerts", limit=500, **before)
            stored |= {one["labels"]["name"] for one in page["items"]}
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        assert set(taken) <= stored
        assert len(taken) == len(set(taken))
        assert house.get("audit/verify")["missing"] == []
        # and what is delivered again is known
        again = house.alertmanager(recorded_alert(alertname="Other", name=taken[0]))
        assert again.json()["accepted"] == 0


# ---------------------------------------------------------------- by hand


def test_a_run_by_hand_goes_through_the_same_guards(tmp_path: Path) -> None:
    with Provider() as provider, installed(tmp_path, provider, hold="1h") as house:
        house.start()
        started = house.remediator(
            "runs", "start", "grow", "--set", "queue=jobs", "--reason", "the dashboard is red"
        )
        assert started.code == 0, started.err
        run = house.ended()
        assert (run["outcome"], run["origin"]) == ("succeeded", "hand")
        assert sizes(provider) == [3, 4]
        (event,) = house.events(kind="run.started")
        assert event["data"]["reason"] == "the dashboard is red"
        assert event["run"] == run["id"]

        wrong = house.remediator("runs", "start", "grwo", "--set", "queue=jobs", "--reason", "x")
        assert wrong.code == 1
        assert "'grwo'" in wrong.err
        assert "grow" in wrong.err.replace("grwo", "")
        hostile = house.remediator("runs", "start", "grow", "--set", "queue=../x", "--reason", "x")
        assert hostile.code == 0
        refused = house.ended(runs=2)
        assert (refused["outcome"], refused["reason"]) == ("refused", "invalid_parameter")
        assert sizes(provider) == [3, 4]


def test_a_pause_holds_an_action_also_over_a_restart(tmp_path: Path) -> None:
    with Provider() as provider, installed(tmp_path, provider) as house:
        house.start()
        assert house.remediator("pause", "--comment", "database migration").code == 0
        house.alertmanager(recorded_alert(alertname="QueueHigh", queue="jobs"))
        house.until(lambda: house.run()["reason"] == "paused", "it waits")
        assert "database migration" in house.run()["observed"]
        assert terminate(house, 5) == 0
        house.start()
        house.quiet(1.2)
        assert provider.calls == []
        assert house.run()["reason"] == "paused"

        assert house.remediator("resume", "--comment", "done").code == 0
        assert house.remediator("resume", "--comment", "done").code == 1
        began = time.monotonic()
        assert house.ended()["outcome"] == "succeeded"
        assert sizes(provider) == [3, 4]
        assert time.monotonic() - began < 10
        kinds = house.kinds()
        assert kinds.index("control.paused") < kinds.index("control.resumed") < kinds.index("run.admitted")


def test_a_pause_of_a_policy_or_a_target_holds_just_that(tmp_path: Path) -> None:
    with Provider() as provider, installed(tmp_path, provider) as house:
        house.start()
        assert house.remediator("pause", "--target", "recorder:a", "--comment", "in repair").code == 0
        for queue in ("a", "b"):
            house.alertmanager(recorded_alert(alertname="QueueHigh", queue=queue))
        house.until(
            lambda: [run["outcome"] for run in house.runs()] == [None, "succeeded"], "b is done, a not"
        )
        assert {call["name"] for call in provider.calls} == {"b"}
        assert "target:recorder:a" in house.runs()[0]["observed"]

        assert house.remediator("pause", "--policy", "grow", "--comment", "bad deploy").code == 0
        assert house.remediator("resume", "--target", "recorder:a", "--comment", "done").code == 0
        house.until(lambda: "policy:grow" in house.runs()[0]["observed"], "the other pause holds it now")
        assert {call["name"] for call in provider.calls} == {"b"}
        assert house.remediator("pause", "--policy", "grwo", "--comment", "x").code == 1
