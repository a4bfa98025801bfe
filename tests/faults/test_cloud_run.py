"""Google hangs, answers after the deadline, cuts the line, throttles, while traffic is shifted: a real
daemon, the shipped action, Google's own client library, and a fake of the service itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.crash.installation import Installation, firing
from tests.fakes.cloud_run import PROJECT, REGION, FakeCloudRun
from tests.fakes.faults import Fault
from tests.faults.scene import ESCALATION, LIMITS

POLICY = f"""
name: bad-release
mode: enforce
from: [am]
match: [alertname="Errors"]
remedies:
  - action: quick.traffic
    with: {{connection: gcp, region: {REGION}, service: "${{labels.service}}", steps: [100]}}
escalate: on-call
limits: {{cooldown: 0s, per_target: [9 per 1h], budget: [99 per 1h], concurrent: 9, blast_radius: 100%}}
"""
CALL = "UpdateService"
OLD, NEW = {"shop-1": 100}, {"shop-2": 100}


@dataclass
class Place:
    daemon: Installation
    google: FakeCloudRun


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        google = stack.enter_context(FakeCloudRun())
        daemon = stack.enter_context(
            Installation(
                tmp_path_factory.mktemp("cloud-run"),
                {"bad-release.yaml": POLICY, "limits.yaml": LIMITS, "escalation.yaml": ESCALATION},
                connections={
                    "gcp": {
                        "kind": "gcp",
                        "project": PROJECT,
                        "endpoints": {"run": google.address},
                        "timeout": 3.0,
                    }
                },
                plugins=["tests.faults.plugin"],
                engine={"action_timeout": "1s"},
            )
        )
        daemon.start()
        yield Place(daemon, google)


CASES = {
    # what goes wrong with the call that acts: how often, the calls that arrive, what the audit log says
    "throttled": (Fault(CALL, "RESOURCE_EXHAUSTED"), 2, 3, "action.failed"),
    "hangs, is carried out after the deadline": (
        Fault(CALL, "hang", applies=True, late=2.0), 1, 1, "action.unknown",
    ),
    "cut, was carried out": (Fault(CALL, "reset", applies=True), 1, 1, "action.unknown"),
    # It carries an etag, so the same call may be issued again once it can no longer land.
    "hangs, was not carried out": (Fault(CALL, "hang"), 1, 2, "action.unknown"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_traffic_goes_back_once_whatever_became_of_the_answer(place: Place, case: str) -> None:
    fault, times, calls, known = CASES[case]
    service = f"shop-{list(CASES).index(case)}"
    google, daemon = place.google, place.daemon
    google.deploy(service, "shop-1")
    google.deploy(service, "shop-2")
    google.set_traffic(service, NEW)
    google.faults.add(fault, times=times)
    before = len(google.faults.named(CALL))
    assert daemon.post(firing("Errors", service=service)) == 200

    def run() -> dict[str, Any]:
        return next((one for one in daemon.runs() if service in str(one["target"])), {"outcome": None})

    daemon.until(lambda: run()["outcome"] is not None, "it ends", 40)
    assert (run()["outcome"], google.serving(service)) == ("succeeded", OLD)
    assert len(google.faults.named(CALL)) - before == calls
    kinds = [one["kind"] for one in daemon.get("audit", run=run()["id"], oldest_first=True)["items"]]
    assert kinds.count(known) == times
    assert kinds.count("action.applied") == 1
    assert "target.quarantined" not in kinds


def test_what_somebody_did_meanwhile_is_not_overwritten(place: Place) -> None:
    """The lost call was not carried out, and a person has shifted the traffic in between: it is nobody's to
    issue again."""
    google, daemon = place.google, place.daemon
    for revision in ("shop-1", "shop-2", "shop-3"):
        google.deploy("kept", revision)
    google.set_traffic("kept", {"shop-3": 100})
    google.faults.add(Fault(CALL, "hang"))
    assert daemon.post(firing("Errors", service="kept")) == 200

    def run() -> dict[str, Any]:
        return next(
            (one for one in daemon.runs() if "kept" in str(one["target"])), {"state": "", "outcome": ""}
        )

    daemon.until(lambda: run()["state"] == "UNKNOWN", "its outcome is not known")
    google.set_traffic("kept", {"shop-1": 100})
    daemon.until(lambda: bool(run()["outcome"]), "it ends", 40)
    assert (run()["outcome"], google.serving("kept")) == ("escalated", {"shop-1": 100})
    assert any(one["quarantine"] and "kept" in one["key"] for one in daemon.get("targets")["items"])
