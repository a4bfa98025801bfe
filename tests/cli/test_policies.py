"""`policies check` and `policies schema`."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from remediator.cli.init import library
from tests.cli.program import Program

GOOD = """\
name: queue
match: [alertname="QueueHigh"]
remedies:
  - action: postgres.cancel_queries
    with: {connection: orders, longer_than: 5m, max: 5}
"""
SETTINGS = """\
store: {url: "sqlite:///./remediator.db"}
senders:
  am: {kind: alertmanager, auth: {bearer: "${MISSING_TOKEN}"}}
connections:
  orders: {kind: postgres, dsn: "postgresql://remediator@127.0.0.1/orders"}
"""


@pytest.fixture
def policies(program: Program) -> Program:
    (program.directory / "policies").mkdir()
    (program.directory / "policies" / "queue.yaml").write_text(GOOD)
    return program


def put(program: Program, name: str, text: str) -> None:
    (program.directory / "policies" / name).write_text(text)


def test_without_settings_names_are_taken_as_given(policies: Program) -> None:
    said = policies("policies", "check")
    assert said.code == 0
    assert "queue" in said.out
    assert "no settings file" in said.err


def test_every_error_is_told_with_its_place(policies: Program) -> None:
    put(policies, "other.yaml", GOOD.replace("name: queue", "name: other").replace("match:", "macth:"))
    put(policies, "third.yaml", GOOD.replace("name: queue", "name: third").replace("max: 5", "max: 5000"))
    said = policies("policies", "check", "policies")
    assert said.code == 1
    assert "policies/other.yaml:2:1: " in said.err
    assert "did you mean 'match'" in said.err
    assert "policies/third.yaml:5:" in said.err
    assert "nothing of this set would be loaded" in said.err


def test_what_bounds_the_daemon_is_told_though_nobody_wrote_it(policies: Program) -> None:
    said = policies("policies", "check")
    assert "storm             100 new alerts of one sender within 1m: nothing of it for 15m" in said.out
    assert "3 runs in a row that did not heal: the policy is demoted to approve" in said.out
    assert said.out.count("as built in") == 4
    put(policies, "limits.yaml", "breaker: {ineffective: 5, demote_to: observe}\n")
    changed = policies("policies", "check", "-o", "json").json["limits"]
    assert changed["breaker"] == {"ineffective": 5, "demote_to": "observe"}
    assert changed["storm"]["new_alerts"] == 100


def test_a_window_that_is_over_is_told_with_its_place(policies: Program) -> None:
    put(policies, "windows.yaml", 'windows:\n  - {name: gone, time_intervals: [{years: ["2020:2024"]}]}\n')
    said = policies("policies", "check")
    assert said.code == 1
    assert "windows.yaml:2:18: the window 'gone' never occurs again" in said.err


def test_errors_as_json(policies: Program) -> None:
    put(policies, "queue.yaml", GOOD.replace("postgres.cancel_queries", "postgres.cancel_querys"))
    said = policies("policies", "check", "--output", "json")
    assert said.code == 1
    (error,) = said.json["errors"]
    assert (error["file"], error["line"]) == ("policies/queue.yaml", 4)
    assert "postgres.cancel_queries" in error["message"]


def test_settings_without_their_secrets_still_give_the_names(policies: Program) -> None:
    (policies.directory / "remediator.yaml").write_text(SETTINGS)
    said = policies("policies", "check")
    assert said.code == 0
    assert "MISSING_TOKEN" in said.err
    (policies.directory / "remediator.yaml").write_text(SETTINGS.replace("orders:", "payments:"))
    said = policies("policies", "check")
    assert said.code == 1
    assert "no connection is named 'orders'" in said.err
    (policies.directory / "remediator.yaml").write_text(
        "connections: {shop: {kind: http, url: 'http://shop'}}"
    )
    assert "; there is none of kind postgres" in policies("policies", "check").err


def test_a_directory_that_is_not_there(program: Program) -> None:
    said = program("policies", "check", "nowhere")
    assert said.code == 1
    assert "nowhere: cannot be read: No such file or directory" in said.err


def test_an_empty_directory_is_a_warning(program: Program) -> None:
    (program.directory / "policies").mkdir()
    said = program("policies", "check")
    assert said.code == 0
    assert "holds no policy" in said.err


def test_the_shipped_policies_pass_the_schema_and_a_typo_does_not(program: Program) -> None:
    said = program("policies", "schema")
    assert (said.code, said.err) == (0, "")
    schema = json.loads(said.out)
    checker = jsonschema.validators.validator_for(schema)(schema)
    checker.check_schema(schema)
    text = yaml.safe_load(library()["connection-pool-cancel-long-queries.yaml"])
    assert list(checker.iter_errors(text)) == []
    assert list(checker.iter_errors({**text, "macth": []}))


def test_actions_and_checks_are_listed_and_explained(program: Program) -> None:
    listed = program("actions", "--output", "json").json
    assert "postgres.cancel_queries" in [one["name"] for one in listed]
    shown = program("actions", "postgres.cancel_queries")
    assert "pg_signal_backend" in shown.out
    assert "connection: orders" in shown.out
    assert "postgres.connections" in program("checks").out
    missing = program("checks", "postgres.conections")
    assert missing.code == 1
    assert "did you mean 'postgres.connections'" in missing.err
