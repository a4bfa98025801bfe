"""The systemd unit: systemd itself takes it and finds it well shut in."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from remediator.settings import Settings
from tests.servers.process import find

DIRECTORY = Path(__file__).parents[2] / "deploy" / "systemd"
EXPOSURE = 15
"""Of 100, as systemd counts; an unconfined service has 96."""


def directives(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DIRECTORY / name).read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def analyze(directory: Path, *words: str) -> str:
    """systemd-analyze over the unit and its drop-in, with a program that exists here."""
    program = find("systemd-analyze", hint="apt-get install systemd")
    text = (DIRECTORY / "remediator.service").read_text()
    unit = directory / "remediator.service"
    unit.write_text(text.replace("/opt/remediator/bin/remediator", "/bin/true"))
    (directory / "remediator.service.d").mkdir()
    (directory / "remediator.service.d" / "secrets.conf").write_text((DIRECTORY / "secrets.conf").read_text())
    done = subprocess.run([program, *words, str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_it_without_a_word(tmp_path: Path) -> None:
    assert analyze(tmp_path, "verify", "--man=no", "--recursive-errors=no") == ""


def test_systemd_finds_it_shut_in(tmp_path: Path) -> None:
    said = analyze(tmp_path, "security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager")
    assert "Overall exposure level" in said


def test_what_must_not_be_lost_is_there() -> None:
    found = {key: values[-1] for key, values in directives("remediator.service").items()}
    assert found["Type"] == "exec"
    assert found["Restart"] == "on-failure"
    assert found["RestartPreventExitStatus"] == "2"
    assert found["DynamicUser"] == "yes"
    assert found["StateDirectory"] == "remediator"
    assert found["ProtectSystem"] == "strict"
    assert found["NoNewPrivileges"] == "yes"
    assert found["CapabilityBoundingSet"] == ""
    assert directives("remediator.service")["SystemCallFilter"] == [
        "@system-service",
        "~@privileged @resources",
    ]


def test_it_has_time_to_stop_in_order() -> None:
    settings = Settings()
    (given,) = directives("remediator.service")["TimeoutStopSec"]
    needed = (settings.server.shutdown_timeout + settings.engine.shutdown_grace) / 1000
    assert float(given.removesuffix("s")) > needed


def test_it_starts_the_daemon_with_settings_and_secrets() -> None:
    unit = directives("remediator.service")
    assert shlex.split(unit["ExecStart"][0])[1:] == ["serve", "--config", "/etc/remediator/remediator.yaml"]
    assert "REMEDIATOR_SECRETS_DIR=%d" in unit["Environment"]
    for line in directives("secrets.conf")["LoadCredential"]:
        name, _, path = line.partition(":")
        assert path == f"/etc/remediator/secrets/{name}"
    assert Settings().store.path == Path("/var/lib/remediator/remediator.db"), "StateDirectory holds it"
