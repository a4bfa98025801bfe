"""Error rate above 5%: the shipped policy shifts a Cloud Run service's traffic back, in steps.

A real daemon, Cloud Monitoring's notification over HTTP, and Google's own client libraries against fakes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2

from tests.e2e.house import PAYLOADS, House, open_incident, shipped
from tests.e2e.pager import ESCALATION, Pager
from tests.fakes.cloud_monitoring import FakeCloudMonitoring
from tests.fakes.cloud_run import PROJECT, REGION, FakeCloudRun

POLICY = "high-error-rate-shift-traffic"
OLD, NEW = "film-api-00041-xyz", "film-api-00042-abc"
SHORT = {
    "for": "1s",
    "verify__after": "300ms",
    "verify__within": "2s",
    "verify__every": "1s",
    "verify__stable_for": "1s",
}


class Run(FakeCloudRun):
    """Cloud Run, and a person at another keyboard."""

    deployed_in_between = False

    def _update(self, request: run_v2.UpdateServiceRequest) -> Any:
        if self.deployed_in_between:
            self.deployed_in_between = False
            self.set_traffic("film-api", {OLD: 30, NEW: 70})
        return super()._update(request)


@dataclass
class Google:
    """One project with the service film-api, whose newest revision fails."""

    run: Run
    monitoring: FakeCloudMonitoring

    def requests(self, count: int, failed: int) -> None:
        """So many more requests, of which so many failed, are counted now."""
        now = int(time.time() * 1000)
        labels = {"service_name": "film-api", "location": REGION}
        for code, number in (("5xx", failed), ("2xx", count - failed)):
            self.monitoring.add(
                "run.googleapis.com/request_count",
                [(now - 100, number)],
                resource="cloud_run_revision",
                resource_labels=labels,
                metric_labels={"response_code_class": code},
            )

    def shifts(self) -> list[dict[str, int]]:
        """What Cloud Run was told, call by call: revision, or LATEST, → percent."""
        return [
            {one.revision or "LATEST": one.percent for one in call.request.service.traffic}
            for call in self.run.faults.named("UpdateService")
        ]


@pytest.fixture
def google() -> Iterator[Google]:
    with Run() as run, FakeCloudMonitoring() as monitoring:
        run.deploy("film-api", "film-api-00040-old")
        run.deploy("film-api", OLD)
        run.deploy("film-api", NEW)
        found = Google(run, monitoring)
        found.requests(1_000, failed=123)
        yield found


@contextmanager
def serving(home: Path, google: Google, **more: Any) -> Iterator[House]:
    endpoints = {"run": google.run.address, "monitoring": google.monitoring.address}
    connection = {"kind": "gcp", "project": PROJECT, "endpoints": endpoints, "timeout": 3}
    with House(
        home, {POLICY: shipped(POLICY, **SHORT)}, connections={"gcp-prod": connection}, **more
    ) as house:
        house.start()
        yield house


def test_shifts_in_steps_and_succeeds_when_the_error_rate_falls(tmp_path: Path, google: Google) -> None:
    with serving(tmp_path, google) as house:
        assert house.gcp(open_incident()).json()["accepted"] == 1
        house.until(lambda: google.run.serving("film-api") == {OLD: 100}, "all traffic is shifted")
        google.requests(100_000, failed=100)
        run = house.ended()

        assert (run["outcome"], run["reason"]) == ("succeeded", "healed")
        assert google.shifts() == [{NEW: 50, OLD: 50}, {OLD: 100}]
        assert run["target"] == "cloud_run:gcp-prod/film-api"
        assert [intent["outcome"] for intent in run["intents"]] == ["applied", "applied"]
        kinds = [event["kind"] for event in run["events"]]
        assert kinds[2] == "incident.declared"  # a P1, so people know while it is being repaired
        assert [one for one in kinds if not one.startswith(("incident.", "message."))] == [
            "run.created",
            "run.admitted",
            "action.applied",
            "action.settled",
            "run.admitted",
            "action.applied",
            "action.settled",
            "verify.healed",
            "run.succeeded",
        ]
        explained = house.remediator("alerts", "explain", run["alert"]).out
        assert "cloud_run.shift_traffic" in explained
        assert "cloud_monitoring.share" in explained
        verified = next(event for event in run["events"] if event["kind"] == "verify.healed")
        share = float(verified["observed"].rpartition("= ")[2])
        assert share == pytest.approx(223 / 101_000, rel=0.01)
        assert house.get("targets")["items"] == []


def test_a_notification_without_the_password_is_not_taken(tmp_path: Path, google: Google) -> None:
    with serving(tmp_path, google) as house:
        bare = house.http.post("/webhooks/gcp-prod", json=open_incident())
        # Cloud Monitoring sends credentials only after it was asked for them
        assert (bare.status_code, bare.headers["www-authenticate"][:5]) == (401, "Basic")
        wrong = house.http.post("/webhooks/gcp-prod", json=open_incident(), auth=("gcp", "guess"))
        assert wrong.status_code == 401
        assert house.get("alerts")["items"] == []
        assert house.gcp(open_incident()).status_code == 200


def test_what_does_not_heal_is_reverted_and_a_person_is_called(tmp_path: Path, google: Google) -> None:
    with (
        Pager() as pager,
        serving(tmp_path, google, escalation=ESCALATION, notifiers=pager.notifiers) as house,
    ):
        house.gcp(open_incident())
        house.until(lambda: google.run.serving("film-api") == {OLD: 100}, "all traffic is shifted")
        run = house.ended()
        assert (run["outcome"], run["reason"]) == ("reverted", "not_healed")
        # the way back is the way there, and the service follows its latest revision again
        assert google.shifts() == [
            {NEW: 50, OLD: 50},
            {OLD: 100},
            {NEW: 50, OLD: 50},
            {"LATEST": 100},
        ]
        assert google.run.traffic("film-api") == {"LATEST": 100}
        assert google.run.serving("film-api") == {NEW: 100}
        assert [intent["kind"] for intent in run["intents"]] == ["apply", "apply", "revert", "revert"]

        house.until(lambda: len(pager.messages) >= 2, "the person is told of the incident, and how it stands")
        house.quiet(2.5)  # incidents and the outbox are looked at every second
        first, message = pager.messages
        assert first["title"] == "INCIDENT DECLARED - P1: cloud_run:gcp-prod/film-api"
        assert "STATUS UPDATE" in message["title"]
        assert f"policy {POLICY}: reverted, because not_healed" in message["message"]
        assert "cloud_monitoring.share = 0.123" in message["message"]
        (incident,) = run["incidents"]
        assert f"remediator incidents show {incident}" in message["message"]
        assert "message.sent" in house.kinds(run=run["id"])


def test_a_change_by_a_person_in_between_is_left_alone(tmp_path: Path, google: Google) -> None:
    google.run.deployed_in_between = True
    with (
        Pager() as pager,
        serving(tmp_path, google, escalation=ESCALATION, notifiers=pager.notifiers) as house,
    ):
        house.gcp(open_incident())
        run = house.ended()
        assert (run["outcome"], run["reason"]) == ("escalated", "changed_by_person")
        assert google.run.traffic("film-api") == {OLD: 30, NEW: 70}
        assert len(google.shifts()) == 1
        assert "changed by somebody else" in json.dumps(run["events"])
        done = "Done: nothing was changed"  # an incident may be declared before its run ends
        house.until(lambda: any(done in one["message"] for one in pager.messages), "the person is told")
        assert house.get("targets")["items"] == []  # nothing is in doubt: the target is free


def test_a_change_by_a_person_before_the_revert_is_left_alone(tmp_path: Path, google: Google) -> None:
    with serving(tmp_path, google) as house:
        house.gcp(open_incident())
        house.until(lambda: google.run.serving("film-api") == {OLD: 100}, "all traffic is shifted")
        google.run.set_traffic("film-api", {"film-api-00040-old": 100})
        run = house.ended()
        assert run["outcome"] == "escalated"
        assert google.run.traffic("film-api") == {"film-api-00040-old": 100}
        assert len(google.shifts()) == 2
        assert "action.revert_skipped" in [event["kind"] for event in run["events"]]


def test_the_test_notification_never_acts(tmp_path: Path, google: Google) -> None:
    body = json.loads((PAYLOADS / "gcp-monitoring-test.json").read_text())
    with serving(tmp_path, google) as house:
        # also when it looks just like the incident that the policy waits for
        disguised = {**open_incident(), "version": "test"}
        for one in (body, disguised):
            answer = house.gcp(one)
            assert (answer.status_code, answer.json()["test"]) == (200, True)
        house.quiet(1.0)
        assert house.get("alerts")["items"] == []
        assert house.runs() == []
        assert house.kinds(kind="alert.test") == ["alert.test"] * 2
        assert google.run.calls == []


def test_a_closed_incident_is_no_recovery(tmp_path: Path, google: Google) -> None:
    """Cloud Monitoring closes incidents when their data stops. What was done stays, and a person looks."""
    with serving(tmp_path, google) as house:
        house.gcp(open_incident())
        house.until(lambda: google.run.serving("film-api") == {OLD: 100}, "all traffic is shifted")
        google.monitoring.forget()
        closed = open_incident(state="closed", ended_at=int(time.time()))
        assert house.gcp(closed).json()["resolved"] == 1
        run = house.ended()
        assert (run["outcome"], run["reason"]) == ("escalated", "verify_unknown")
        assert google.run.traffic("film-api") == {OLD: 100}
        assert run["alerts"][0]["status"] == "closed"
        assert "no data" in run["observed"]


def test_an_incident_that_closes_during_the_hold_is_not_acted_on(tmp_path: Path, google: Google) -> None:
    with serving(tmp_path, google) as house:
        house.gcp(open_incident(started_at=int(time.time())))
        house.gcp(open_incident(state="closed", ended_at=int(time.time())))
        run = house.ended()
        assert (run["outcome"], run["reason"], run["observed"]) == (
            "cancelled",
            "alert_resolved",
            "alert is closed",
        )
        assert google.run.faults.named("UpdateService") == []
