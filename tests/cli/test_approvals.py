"""`runs approve` and `runs reject` beside a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.daemon import OPERATOR, POLICY, Daemon

MANAGER = "manager-token-9012"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose policy asks a manager."""
    more = f"    - {{name: mary, role: manager, token: {MANAGER}}}\n"
    made = Daemon(tmp_path_factory.mktemp("asking"), more)
    asks = POLICY.replace("mode: enforce", "mode: approve") + "approval: {role: manager}\n"
    made.put("pressure", asks.replace("[2 per 1h]", "[20 per 1h]"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def asked(daemon: Daemon, site: str) -> dict[str, Any]:
    """A run that waits for an answer, about a valve of its own."""
    (daemon.home / site).write_text("0")
    assert daemon.fire(site=site, valve=site) == 200

    def waiting() -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = daemon.program("runs", "list", "--open", "-o", "json").json
        return [run for run in runs if run["target"] == f"valve:{site}" and run["state"] == "APPROVAL"]

    daemon.until(lambda: bool(waiting()), f"{site} is asked about")
    found: dict[str, Any] = daemon.program("runs", "show", waiting()[0]["id"], "-o", "json").json
    return found


def test_approve_acts_and_twice_is_a_conflict(daemon: Daemon) -> None:
    run = asked(daemon, "a")
    number = run["approvals"][0]["id"]
    shown = daemon.program("runs", "show", run["id"])
    assert (
        f"{number}: valve.open on valve:a: turns=0 → turns=2, waits for the role manager until" in shown.out
    )
    said = daemon.program(
        "runs", "approve", run["id"], "--approval", number, "--comment", "go", "--token", MANAGER
    )
    assert (said.code, said.err) == (0, "")
    assert f"run {run['id']} is approved by mary: valve.open on valve:a: turns=0 → turns=2" in said.out
    followed = daemon.program("runs", "show", run["id"], "-w", "--timeout", "20s")
    assert followed.code == 0
    assert (daemon.home / "a").read_text() == "2"
    for word in ("approve", "reject"):
        again = daemon.program("runs", word, run["id"], "--comment", "again", "--token", MANAGER)
        assert again.code == 1
        assert f"approval {number} of run {run['id']} was approved by mary at 20" in again.err
        assert ": go; it decides once" in again.err


def test_reject(daemon: Daemon) -> None:
    run = asked(daemon, "b")
    said = daemon.program("runs", "reject", run["id"], "--comment", "no", "--token", MANAGER, "-o", "json")
    assert said.code == 0
    assert (said.json["decision"], said.json["actor"], said.json["comment"]) == ("rejected", "mary", "no")
    followed = daemon.program("runs", "show", run["id"], "-w", "--timeout", "20s")
    assert followed.code == 1
    assert "mary rejected it: no" in followed.out
    assert (daemon.home / "b").read_text() == "0"


def test_who_may_not_is_told_by_name(daemon: Daemon) -> None:
    run = asked(daemon, "c")
    said = daemon.program("runs", "approve", run["id"], "--comment", "go", "--token", OPERATOR)
    assert said.code == 1
    assert "alice is operator; approving valve.open on valve:c needs the role manager" in said.err


def test_a_comment_is_required(daemon: Daemon) -> None:
    for word in ("approve", "reject"):
        said = daemon.program("runs", word, 1, "--token", MANAGER)
        assert said.code == 2
        assert "--comment" in said.err


def test_explain_says_for_whom_it_waits(daemon: Daemon) -> None:
    run = asked(daemon, "d")
    said = daemon.program("alerts", "explain", run["alert"])
    assert "waits for a person to approve it" in said.out
    assert "people asked" in said.out
