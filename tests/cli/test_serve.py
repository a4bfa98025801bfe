"""`serve`: starts, says where, obeys signals, and refuses clearly."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.daemon import OPERATOR, POLICY, Daemon
from tests.servers.web import answers


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.stop()


def ended(daemon: Daemon) -> int:
    assert daemon.process is not None
    daemon.until(lambda: not daemon.process.running, "the daemon ends")  # type: ignore[union-attr]
    code = daemon.process.returncode
    assert code is not None
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_address_and_stops_with_0(daemon: Daemon, number: signal.Signals) -> None:
    process = daemon.start()
    (serving,) = [line for line in daemon.log() if line["event"] == "serving"]
    assert serving["address"] == daemon.url
    os.kill(process.pid, number)
    assert ended(daemon) == 0
    assert [line["event"] for line in daemon.log()][-1] == "stopped"


def test_hangup_reloads_the_policies_and_keeps_the_old_ones_when_they_are_wrong(daemon: Daemon) -> None:
    process = daemon.start()

    def reloads() -> list[bool]:
        return [bool(line["fault"]) for line in daemon.log() if line["event"] == "reloaded"]

    daemon.put("third", POLICY.replace("name: pressure", "name: third"))
    os.kill(process.pid, signal.SIGHUP)
    daemon.until(lambda: reloads() == [False], "a reload")
    daemon.put("third", "name: third\nmacth: []\n")
    os.kill(process.pid, signal.SIGHUP)
    daemon.until(lambda: reloads() == [False, True], "a refused reload")
    started = daemon.program(
        "runs", "start", "third", "--set", "valve=main", "--set", "site=a", "--reason", "test"
    )
    assert started.code == 0, started.err


def test_what_was_accepted_is_there_after_a_restart(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.fire(site="held", valve="main") == 200
    daemon.stop()
    listed = daemon.program("runs", "list", "--output", "json").json
    assert {run["policy"] for run in listed} >= {"patient"}
    daemon.start()
    assert daemon.program("runs", "list", "--open", "--output", "json").json


def test_a_taken_port_refuses_to_start(daemon: Daemon) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", daemon.port))
        other.listen()
        said = daemon.program("serve")
    assert said.code == 1
    assert f"cannot listen on 127.0.0.1 port {daemon.port}: Address already in use" in said.err
    assert "Traceback" not in said.err
    assert not (daemon.home / "remediator.db").exists()


def test_a_second_daemon_on_the_same_store_refuses_to_start(daemon: Daemon) -> None:
    daemon.start()
    said = daemon.program("serve", REMEDIATOR_SERVER__PORT="0")
    assert said.code == 1
    assert "not started" in said.err
    assert "remediator.db" in said.err
    assert "Traceback" not in said.err
    assert answers(f"{daemon.url}/readyz")


def test_wrong_policies_refuse_to_start(daemon: Daemon) -> None:
    daemon.put("third", "name: third\nmacth: []\n")
    said = daemon.program("serve")
    assert said.code == 1
    assert "third.yaml:2" in said.err
    assert "Traceback" not in said.err


def test_wrong_settings_are_wrong_usage(daemon: Daemon) -> None:
    with (daemon.home / "remediator.yaml").open("a") as file:
        file.write("serverr: {}\n")
    said = daemon.program("serve")
    assert said.code == 2
    assert "serverr" in said.err
    assert "did you mean 'server'" in said.err
    assert "Traceback" not in said.err


def test_port_0_is_answered_with_the_real_one(daemon: Daemon) -> None:
    text = (daemon.home / "remediator.yaml").read_text()
    (daemon.home / "remediator.yaml").write_text(text.replace(f"port: {daemon.port}", "port: 0"))
    daemon.start(ready=False)

    def address() -> str:
        lines = daemon.log() if (daemon.home / "log").exists() else []
        return next((str(line["address"]) for line in lines if line["event"] == "serving"), "")

    daemon.until(lambda: bool(address()), "an address")
    assert answers(f"{address()}/readyz")
    listed = daemon.program("runs", "list", "--server", address(), "--token", OPERATOR)
    assert listed.code == 0


def test_a_notifier_that_nobody_can_reach_is_refused_by_its_key(daemon: Daemon) -> None:
    """A pager whose address is wrong would be noticed when it is needed."""
    with (daemon.home / "remediator.yaml").open("a") as file:
        file.write("notifiers: {night: {url: 'jsn://user:hunter2@pager.example.com'}}\n")
    said = daemon.program("serve")
    assert said.code == 1
    assert "notifiers.night.url" in said.err
    assert "jsn://***" in said.err
    assert "hunter2" not in said.err
    assert "Traceback" not in said.err


def test_a_level_for_an_action_that_does_not_exist_is_refused(daemon: Daemon) -> None:
    with (daemon.home / "remediator.yaml").open("a") as file:
        file.write("approvals: {actions: {'valev.*': 4}}\n")
    said = daemon.program("serve")
    assert said.code == 1
    assert "approvals.actions: no action fits 'valev.*'" in said.err
