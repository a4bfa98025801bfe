"""kill -9 around a question to people: it is neither lost nor asked twice, and its answer is used once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.crash.installation import Installation, firing
from tests.crash.provider import Provider
from tests.crash.test_kill import POLICY, installation

ASKS = POLICY.replace("mode: enforce", "mode: approve") + "approval: {{role: manager, expires: 15m}}\n"


def approve(daemon: Installation) -> int | None:
    """The answer's status, or None where none came."""
    try:
        return daemon.http.post("/api/v1/runs/1/approve", json={"comment": "go"}).status_code
    except httpx2.TransportError:
        return None


def asked(daemon: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.get("approvals")["items"]
    return found


@pytest.mark.parametrize(
    ("failpoint", "answers"),
    [
        ("move.before_commit@APPROVAL", 1),  # dies before it has asked
        ("move.after_commit@APPROVAL", 1),  # dies before it has told anybody
        ("outbox.after_send", 1),  # dies when it has told, before it wrote that down
        ("decide.before_commit@approved", 1),  # the answer is lost: it has to be given again
        ("decide.after_commit@approved", 0),  # the answer is kept, although nobody was told so
        ("admit.before_commit@apply", 0),
    ],
)
def test_killed_around_a_question(tmp_path: Path, failpoint: str, answers: int) -> None:
    with Provider() as provider, installation(tmp_path, provider, policy=ASKS) as daemon:
        daemon.start(failpoint)
        assert daemon.post(firing(queue="jobs")) == 200
        if failpoint.startswith(("decide", "admit")):
            daemon.until(lambda: bool(asked(daemon)), "it asks")
            assert approve(daemon) in ((None,) if failpoint.startswith("decide") else (None, 200))
        assert daemon.dead(), f"it never reached {failpoint}\n{daemon.process.tail()}"  # type: ignore[union-attr]
        assert provider.calls == []

        daemon.start()
        daemon.until(lambda: len(asked(daemon)) == 1, "it asks, once")
        if answers:
            daemon.until(lambda: daemon.runs()[0]["state"] == "APPROVAL", "it waits")
            assert provider.calls == []
            assert approve(daemon) == 200
        daemon.until(lambda: daemon.runs()[0]["outcome"] == "succeeded", "it is done")
        assert len(provider.calls) == 1
        assert provider.twice() == []
        assert approve(daemon) == 409
        (one,) = asked(daemon)
        assert (one["decision"], one["actor"]) == ("approved", "local")
        kinds = [event["kind"] for event in daemon.get("audit", run=1, limit=500)["items"]]
        assert kinds.count("approval.asked") == kinds.count("approval.approved") == 1
        assert daemon.get("audit/verify")["changed"] == []


def test_killed_while_it_waits_and_back_after_the_time_is_over(tmp_path: Path) -> None:
    policy = ASKS.replace("15m", "2s")
    with Provider() as provider, installation(tmp_path, provider, policy=policy) as daemon:
        daemon.start()
        assert daemon.post(firing(queue="jobs")) == 200
        daemon.until(lambda: bool(asked(daemon)), "it asks")
        daemon.kill()
        daemon.start()
        daemon.until(lambda: daemon.runs()[0]["outcome"] is not None, "it ends")
        run = daemon.runs()[0]
        assert (run["outcome"], run["reason"]) == ("refused", "approval_expired")
        assert approve(daemon) == 409
        assert provider.calls == []
