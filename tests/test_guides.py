"""The guides' examples are complete: they are found by scan, stand in a policy, and work on a real system."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remediator.catalogue import PACKAGES, Catalogue, scan
from remediator.clients.connections import CallContext, Connections
from remediator.contracts import Action, Check, Nothing
from remediator.errors import Refused
from remediator.model import Instant, Landed, Plan, Reason, Sample
from remediator.policy.set import compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.settings import PostgresConnection
from tests.servers.postgres import Postgres

DOCS = Path(__file__).parent.parent / "docs"
SETUP = """
CREATE ROLE remediator LOGIN;
CREATE TABLE feature_flags (name text PRIMARY KEY, enabled boolean, version bigint DEFAULT 1);
INSERT INTO feature_flags VALUES ('recommendations', true), ('search', true);
GRANT SELECT, UPDATE ON feature_flags TO remediator;
CREATE TABLE queues (name text PRIMARY KEY);
CREATE TABLE jobs (queue text NOT NULL, done_at timestamptz);
INSERT INTO queues VALUES ('mail'), ('idle');
INSERT INTO jobs VALUES ('mail', NULL), ('mail', NULL), ('mail', now());
GRANT SELECT ON queues, jobs TO remediator;
"""


def block(guide: str, language: str, number: int = 0) -> str:
    """A fenced block of a guide."""
    text = (DOCS / guide).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """The shipped catalogue and the guides' examples, as a package of an installation's own."""
    directory = tmp_path_factory.mktemp("plugins") / "acme_actions"
    directory.mkdir()
    (directory / "__init__.py").write_text("")
    (directory / "feature_flag.py").write_text(block("writing-an-action.md", "python"))
    (directory / "job_queue.py").write_text(block("writing-a-check.md", "python"))
    sys.path.insert(0, str(directory.parent))
    yield scan((*PACKAGES, "acme_actions"))
    sys.path.remove(str(directory.parent))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(max_connections=20, settings={"fsync": "off"}) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute(SETUP)
        yield server


@pytest.fixture
def context(server: Postgres) -> Iterator[CallContext]:
    made = Connections({"shop": PostgresConnection(dsn=server.dsn("remediator"))})
    yield CallContext(made, Instant(5))
    made.close()


@pytest.fixture
def turn_off(catalogue: Catalogue) -> Action[Any]:
    found = catalogue.action("feature_flag.turn_off")
    assert found is not None
    return found


@pytest.fixture
def waiting(catalogue: Catalogue) -> Check[Any]:
    found = catalogue.check("job_queue.waiting")
    assert found is not None
    return found


def test_the_examples_stand_in_a_policy(catalogue: Catalogue, waiting: Check[Any]) -> None:
    remedies = block("writing-an-action.md", "yaml", 1)
    assert remedies.startswith("remedies:")
    text = f"""
name: example
description: The guides' examples.
severity: P3
owner: platform
runbook: https://runbooks.example.com/example
match: ['alertname="FeatureFails"']
when:
  - check: job_queue.waiting
    with: {{connection: shop, queue: "{waiting.example["with"]["queue"]}"}}
    is: "{waiting.example["is"]}"
{remedies}
verify: {{within: 5m, checks: [{{check: alert.firing, is: "== 0"}}]}}
on_failure: revert
"""
    words = Vocabulary(catalogue=catalogue, connections={"shop": "postgres"})
    assert list(compile_set({"example.yaml": text}, words).policies) == ["example"]


def test_the_action_turns_a_flag_off_and_back_on(context: CallContext, turn_off: Action[Any]) -> None:
    params = turn_off.params.model_validate({"connection": "shop", "flag": "recommendations"})
    before = turn_off.observe(context, params)
    plan = turn_off.plan(before, params, [])
    assert isinstance(plan, Plan)
    assert turn_off.landed(before, plan) is Landed.NOT_APPLIED

    assert turn_off.apply(context, plan, "token") == {"version": "2"}
    assert turn_off.settled(context, plan).done
    off = turn_off.observe(context, params)
    assert off.fields == {"enabled": False}
    assert turn_off.landed(off, plan) is Landed.APPLIED
    assert isinstance(turn_off.plan(off, params, [plan]), Nothing)

    with pytest.raises(Refused) as raised:  # the same plan once more finds another version
        turn_off.apply(context, plan, "token")
    assert raised.value.reason is Reason.CHANGED_BY_PERSON

    back = turn_off.undo(off, plan)
    assert isinstance(back, Plan)
    turn_off.apply(context, back, "token")
    on = turn_off.observe(context, params)
    assert on.fields == {"enabled": True}
    assert isinstance(turn_off.undo(on, plan), Nothing)


def test_the_action_leaves_alone_what_a_person_changed_in_between(
    server: Postgres, context: CallContext, turn_off: Action[Any]
) -> None:
    params = turn_off.params.model_validate({"connection": "shop", "flag": "search"})
    plan = turn_off.plan(turn_off.observe(context, params), params, [])
    assert isinstance(plan, Plan)
    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        admin.execute("UPDATE feature_flags SET version = version + 1 WHERE name = 'search'")
    with pytest.raises(Refused, match="changed by somebody else"):
        turn_off.apply(context, plan, "token")
    assert turn_off.landed(turn_off.observe(context, params), plan) is Landed.UNCLEAR


def test_the_action_refuses_a_flag_that_is_not_there(context: CallContext, turn_off: Action[Any]) -> None:
    params = turn_off.params.model_validate({"connection": "shop", "flag": "nothing"})
    with pytest.raises(Refused, match="there is no feature flag 'nothing'") as raised:
        turn_off.observe(context, params)
    assert raised.value.reason is Reason.MISSING_TARGET


@pytest.mark.parametrize(
    ("queue", "samples"),
    [
        ("mail", (Sample(at=Instant(5), value=2.0),)),
        ("idle", (Sample(at=Instant(5), value=0.0),)),
        ("gone", ()),
    ],
)
def test_the_check_counts_and_an_unknown_queue_is_no_data(
    context: CallContext, waiting: Check[Any], queue: str, samples: tuple[Sample, ...]
) -> None:
    params = waiting.params.model_validate({"connection": "shop", "queue": queue})
    assert waiting.read(context, params).samples == samples


@pytest.mark.parametrize("guide", ["writing-an-action.md", "writing-a-check.md"])
def test_the_examples_are_formatted_as_the_rest_of_the_code(guide: str) -> None:
    lines = block(guide, "python").splitlines()
    assert [line for line in lines if len(line) > 110 or line != line.rstrip()] == []
