"""`init` writes what can be used at once, and never touches what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.cli.init import library
from remediator.settings import load
from tests.cli.program import Program

POLICIES = sorted(
    name.removesuffix(".yaml")
    for name in library()
    if name not in ("limits.yaml", "windows.yaml", "escalation.yaml") and not name.endswith(".test.yaml")
)


def test_what_init_writes_passes_its_own_check(program: Program) -> None:
    said = program("init", "here")
    assert said.code == 0
    assert "remediator policies check --config here/remediator.yaml" in said.out
    checked = program("policies", "check", "--config", "here/remediator.yaml")
    assert (checked.code, checked.err) == (0, "")
    assert "1 policy" in checked.out


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_of_the_library_can_be_chosen(program: Program, policy: str) -> None:
    assert program("init", "--policy", policy).code == 0
    checked = program("policies", "check", "--output", "json")
    assert [one["name"] for one in checked.json["policies"]] == [policy]
    assert (program.directory / "policies" / f"{policy}.yaml").read_text() == library()[f"{policy}.yaml"]


def test_the_settings_can_be_loaded_as_they_are(program: Program) -> None:
    program("init")
    settings = load(program.directory / "remediator.yaml")
    assert settings.server.loopback
    assert settings.store.path == program.directory / "remediator.db"
    assert settings.policies.dir == program.directory / "policies"


def test_nothing_is_overwritten(program: Program) -> None:
    program("init")
    own = program.directory / "policies" / "limits.yaml"
    own.write_text("global: {concurrent: 1}\n")
    (program.directory / "remediator.yaml").write_text("server: {port: 9}\n")
    said = program("init", "--output", "json")
    assert said.code == 0
    assert not any(said.json["written"].values())
    assert own.read_text() == "global: {concurrent: 1}\n"
    assert (program.directory / "remediator.yaml").read_text() == "server: {port: 9}\n"


def test_an_unknown_policy_is_named_with_what_there_is(program: Program) -> None:
    said = program("init", "--policy", "no-such")
    assert said.code == 2
    assert "no-such" in said.err
    assert POLICIES[0] in said.err
    assert list(program.directory.glob("*.yaml")) == []


def test_a_directory_that_cannot_be_written_is_an_error_without_a_traceback(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = program("init", "file")
    assert said.code == 2
    assert "file" in said.err
    assert "Traceback" not in said.err
