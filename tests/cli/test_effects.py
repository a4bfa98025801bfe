"""`effects list|renew|return` against a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.daemon import VIEWER, Daemon

LEASED = """\
name: relief
mode: enforce
from: [am]
match: [alertname="NeedsRelief"]
remedies:
  - action: valve.lend
    with: {directory: DIRECTORY, name: "${labels.valve}", by: 2}
    expires: 2h
limits: {cooldown: 0s}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that has lent a valve two turns for two hours, and whose alert still fires."""
    made = Daemon(tmp_path)
    made.put("relief", LEASED)
    made.start()
    try:
        assert made.fire(alertname="NeedsRelief", valve="main") == 200
        made.until(lambda: bool(listed(made)), "a lease")
        yield made
    finally:
        made.stop()


def listed(daemon: Daemon, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.program("effects", "list", *options, "-o", "json").json
    return found


def test_a_lease_is_listed_renewed_and_returned(daemon: Daemon) -> None:
    (effect,) = listed(daemon)
    id = effect["id"]
    assert (effect["target"], effect["field"], effect["current"], effect["prior"]) == (
        "valve:main",
        "turns",
        2,
        0,
    )
    renewed = daemon.program("effects", "renew", id, "--for", "2h", "--comment", "still hot")
    assert renewed.code == 0, renewed.err
    assert renewed.out.startswith("turns of valve:main stays 2 until ")
    table = daemon.program("effects", "list").out
    assert "renewed by alice" in table
    assert "BACK TO" in table
    (later,) = listed(daemon)
    assert later["expires_at"] > effect["expires_at"]

    too_long = daemon.program("effects", "renew", id, "--for", "3h", "--comment", "very hot")
    assert too_long.code == 1
    assert "at most 2h at a time" in too_long.err

    back = daemon.program("effects", "return", id, "--comment", "cool again")
    assert back.code == 0, back.err
    run = listed(daemon, "--all")[0]["return_run"]
    assert back.out == f"run {run} puts it back; follow it: remediator runs show {run}\n"
    daemon.until(lambda: (daemon.home / "main").read_text() == "0", "it is back")
    daemon.until(lambda: listed(daemon) == [], "no lease is open")
    (closed,) = listed(daemon, "--all")
    assert (closed["outcome"], closed["recalled_by"]) == ("returned", "alice")
    again = daemon.program("effects", "return", id, "--comment", "cool again")
    assert again.code == 1
    assert "over already: returned" in again.err
    kinds = [one["kind"] for one in daemon.program("audit", "query", "-o", "json").json]
    assert kinds.count("effect.renewed") == kinds.count("effect.recalled") == 1


def test_who_may_and_how(daemon: Daemon) -> None:
    as_viewer = ("--server", daemon.url, "--token", VIEWER)
    assert daemon.program("effects", "list", *as_viewer).code == 0
    assert daemon.program("effects", "return", 1, "--comment", "x", *as_viewer).code == 1
    assert daemon.program("effects", "renew", 1, "--for", "1h", "--comment", "x", *as_viewer).code == 1
    assert daemon.program("effects", "renew", 1, "--comment", "x").code == 2
    assert daemon.program("effects", "renew", 1, "--for", "soon", "--comment", "x").code == 2
    assert daemon.program("effects", "return", 1).code == 2
    assert daemon.program("effects", "return", 0, "--comment", "x").code == 2
    unknown = daemon.program("effects", "return", 99, "--comment", "x")
    assert unknown.code == 1
    assert "99" in unknown.err
