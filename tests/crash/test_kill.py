"""kill -9 at every boundary between two states, then a restart: no alert lost, no action twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.crash.installation import Installation, firing
from tests.crash.provider import Provider

POLICY = """
name: grow
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
for: 1s
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.queue}}", add: 2, max: 10, url: "{url}"}}
verify:
  within: 20s
  every: 1s
  checks: [{{check: alert.firing, with: {{}}, is: "== 1"}}]
escalate: on-call
"""
ESCALATION = "chains: {on-call: [{after: 0m, notify: [log]}]}\n"

BOUNDARIES = {
    # fail-point: what must become of the run
    "accept.before_commit": "succeeded",
    "accept.after_commit": "succeeded",
    "admit.before_commit@apply": "succeeded",
    "admit.after_commit@apply": "escalated",  # an intent, no call: cannot be repeated safely here
    "apply.before@recorder.grow": "escalated",
    "apply.after@recorder.grow": "succeeded",  # it was applied: seen by looking
    "move.before_commit@SETTLING": "succeeded",
    "move.after_commit@SETTLING": "succeeded",
    "move.before_commit@succeeded": "succeeded",
    "move.after_commit@succeeded": "succeeded",
}


def installation(home: Path, provider: Provider, more: str = "", policy: str = POLICY) -> Installation:
    return Installation(
        home,
        {"grow.yaml": policy.format(url=provider.url) + more, "escalation.yaml": ESCALATION},
        connections={"recorder": {"kind": "http", "url": provider.url}},
        plugins=["tests.crash.plugin"],
    )


@pytest.mark.parametrize(("failpoint", "outcome"), BOUNDARIES.items())
def test_killed_at_a_boundary(tmp_path: Path, failpoint: str, outcome: str) -> None:
    with Provider() as provider, installation(tmp_path, provider) as daemon:
        daemon.start(failpoint)
        alert = firing(queue="jobs")
        answered = daemon.post(alert)
        assert daemon.dead(), f"it never reached {failpoint}\n{daemon.process.tail()}"  # type: ignore[union-attr]
        assert daemon.process.returncode == -9  # type: ignore[union-attr]

        daemon.start()
        if answered is None:
            assert daemon.post(alert) == 200  # what Alertmanager does with what was not answered
        daemon.until(
            lambda: [run["outcome"] for run in daemon.runs()] == [outcome], f"{failpoint} → {outcome}"
        )
        assert daemon.post(alert) == 200  # and what it does every repeat_interval
        assert len(daemon.runs()) == 1
        assert len(daemon.get("alerts")["items"]) == 1
        assert len(provider.calls) == (0 if outcome == "escalated" else 1)
        assert provider.twice() == []
        assert daemon.get("audit/verify")["changed"] == []


NEVER_HEALS = (
    POLICY.replace('is: "== 1"', 'is: "== 0"').replace("within: 20s", "within: 1s") + "on_failure: revert\n"
)
GOING_BACK = {
    # fail-point while going back: what must become of the run, and of the size that was 1
    "move.before_commit@VERIFY": ("reverted", 1),
    "move.after_commit@VERIFY": ("reverted", 1),
    "move.before_commit@REVERTING": ("reverted", 1),
    "move.after_commit@REVERTING": ("reverted", 1),
    "admit.before_commit@revert": ("reverted", 1),
    "admit.after_commit@revert": ("escalated", 3),
    "apply.before@recorder.grow:2": ("escalated", 3),
    "apply.after@recorder.grow:2": ("reverted", 1),
    "move.before_commit@reverted": ("reverted", 1),
    "move.after_commit@reverted": ("reverted", 1),
}
LEASED = POLICY.replace(', url: "{url}"}}', ', url: "{url}"}}\n    expires: 3s')
RETURNING = {
    "admit.before_commit@return": ("reverted", 1),
    "admit.after_commit@return": ("escalated", 3),
    "apply.before@recorder.grow:2": ("escalated", 3),
    "apply.after@recorder.grow:2": ("reverted", 1),
    "move.before_commit@REVERTING": ("reverted", 1),
    "move.after_commit@REVERTING": ("reverted", 1),
    "move.before_commit@reverted": ("reverted", 1),
    "move.after_commit@reverted": ("reverted", 1),
}


@pytest.mark.parametrize(("failpoint", "ending"), GOING_BACK.items())
def test_killed_while_going_back(tmp_path: Path, failpoint: str, ending: tuple[str, int]) -> None:
    outcome, size = ending
    with Provider() as provider, installation(tmp_path, provider, policy=NEVER_HEALS) as daemon:
        daemon.start(failpoint)
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(15), f"it never reached {failpoint}\n{daemon.process.tail()}"  # type: ignore[union-attr]
        daemon.start()
        daemon.until(
            lambda: [run["outcome"] for run in daemon.runs()] == [outcome], f"{failpoint} → {outcome}"
        )
        assert provider.sizes["jobs"] == size
        assert provider.twice() == []


@pytest.mark.parametrize("second", ["move.before_commit@UNKNOWN", "move.after_commit@UNKNOWN"])
def test_killed_again_while_the_outcome_is_unknown(tmp_path: Path, second: str) -> None:
    with Provider() as provider, installation(tmp_path, provider) as daemon:
        daemon.start("apply.after@recorder.grow")
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(15)
        daemon.start(second, wait=False)
        assert daemon.dead(15), f"it never reached {second}"
        daemon.start()
        daemon.until(
            lambda: [run["outcome"] for run in daemon.runs()] == ["succeeded"], f"{second} → succeeded"
        )
        assert len(provider.calls) == 1


WAITS = POLICY.replace("remedies:", 'when: [{{check: alert.firing, with: {{}}, is: "== 0"}}]\nremedies:')


@pytest.mark.parametrize("failpoint", ["move.before_commit@GUARD", "move.after_commit@GUARD"])
def test_killed_while_it_waits_for_a_check(tmp_path: Path, failpoint: str) -> None:
    with Provider() as provider, installation(tmp_path, provider, policy=WAITS) as daemon:
        daemon.start(failpoint)
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(15), f"it never reached {failpoint}"
        daemon.start()
        daemon.until(lambda: daemon.runs()[0]["reason"] == "check_false", "it waits again")
        assert daemon.post(firing(queue="jobs", status="resolved")) == 200
        daemon.until(lambda: daemon.runs()[0]["outcome"] == "cancelled", "the resolve cancels it")
        assert provider.calls == []


def test_killed_after_a_message_was_sent(tmp_path: Path) -> None:
    """At least once: what may have been sent and was not recorded is sent again."""
    policy = POLICY.replace("add: 2, max: 10", "add: 2, max: 1")
    with Provider() as provider, installation(tmp_path, provider, policy=policy) as daemon:
        daemon.start("outbox.after_send")
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead(15), "it never sent the message"
        daemon.start()
        daemon.until(lambda: len(daemon.get("audit", kind="message.sent")["items"]) == 1, "it is recorded")
        assert [run["outcome"] for run in daemon.runs()] == ["nothing_to_do"]


@pytest.mark.parametrize(("failpoint", "ending"), RETURNING.items())
def test_killed_while_a_lease_goes_back(tmp_path: Path, failpoint: str, ending: tuple[str, int]) -> None:
    outcome, size = ending
    with Provider() as provider, installation(tmp_path, provider, policy=LEASED) as daemon:
        daemon.start(failpoint)
        assert daemon.post(firing(queue="jobs")) == 200
        daemon.until(lambda: daemon.runs()[0]["outcome"] == "succeeded", "it succeeds")
        daemon.post(firing(queue="jobs", status="resolved"))
        assert daemon.dead(15), f"it never reached {failpoint}\n{daemon.process.tail()}"  # type: ignore[union-attr]
        daemon.start()
        daemon.until(
            lambda: [run["outcome"] for run in daemon.runs()] == ["succeeded", outcome],
            f"{failpoint} → {outcome}",
        )
        assert provider.sizes["jobs"] == size
        (effect,) = daemon.get("effects", open=False)["items"]
        assert effect["outcome"] == ("returned" if outcome == "reverted" else "left to a person")
        assert effect["return_run"] == daemon.runs()[-1]["id"]
        assert provider.twice() == []


def test_a_quarantined_target_is_free_again_once_a_person_says_so(tmp_path: Path) -> None:
    rest = "limits: {cooldown: 0s}\n"
    with Provider() as provider, installation(tmp_path, provider, rest) as daemon:
        daemon.start("apply.before@recorder.grow")
        assert daemon.post(firing(queue="jobs")) == 200
        assert daemon.dead()
        daemon.start()
        daemon.until(lambda: [run["outcome"] for run in daemon.runs()] == ["escalated"], "it is escalated")
        daemon.post(firing(queue="jobs", pod="another"))
        daemon.until(lambda: len(daemon.runs()) == 2 and daemon.runs()[1]["outcome"] is not None, "refused")
        assert (daemon.runs()[1]["outcome"], daemon.runs()[1]["reason"]) == ("refused", "quarantined")
        unknown = daemon.http.post("/api/v1/targets/clear", json={"target": "recorder:other", "reason": "x"})
        assert unknown.status_code == 404
        assert "recorder/jobs" in unknown.json()["detail"]
        cleared = daemon.http.post(
            "/api/v1/targets/clear", json={"target": "recorder:jobs", "reason": "looked: still 1"}
        )
        assert cleared.status_code == 200
        daemon.post(firing(queue="jobs", pod="a third"))
        daemon.until(lambda: daemon.runs()[-1]["outcome"] == "succeeded", "the third acts")
        assert len(provider.calls) == 1
        (event,) = daemon.get("audit", kind="target.cleared")["items"]
        assert (event["target"], event["data"]["reason"]) == ("recorder:jobs", "looked: still 1")


def test_killed_again_and_again_with_a_backlog(tmp_path: Path) -> None:
    """A dozen alerts, slow calls, a kill every second: each target grows at most once, none is forgotten."""
    count = 12
    policy = POLICY.replace("for: 1s\n", "").replace(
        "escalate:", "limits: {{budget: [100 per 1h], concurrent: 4, open_runs: 100}}\nescalate:"
    )
    with Provider(slow=0.3) as provider:
        daemon = Installation(
            tmp_path,
            {
                "grow.yaml": policy.format(url=provider.url),
                "escalation.yaml": ESCALATION,
                # What is killed in a call may end with a person: no reason here to ask for the others.
                "limits.yaml": "global: {budget: [100 per 1h], concurrent: 4}\n"
                "breaker: {ineffective: 100, demote_to: approve}\n",
            },
            connections={"recorder": {"kind": "http", "url": provider.url}},
            plugins=["tests.crash.plugin"],
        )
        with daemon:
            daemon.start()
            accepted = [i for i in range(count) if daemon.post(firing(queue=f"q{i}")) == 200]
            assert len(accepted) == count
            for pause in (0.5, 1.0, 0.8):
                time.sleep(pause)
                daemon.kill()
                daemon.start()
            daemon.until(
                lambda: all(run["outcome"] for run in daemon.runs()) and len(daemon.runs()) == count,
                "every run ends",
                seconds=60,
            )
            assert provider.twice() == []
            assert provider.collisions == []
            grown = [call["name"] for call in provider.calls]
            assert sorted(grown) == sorted(set(grown))
            outcomes = {run["target"]: run["outcome"] for run in daemon.runs()}
            for name in grown:
                assert outcomes[f"recorder:{name}"] == "succeeded"
