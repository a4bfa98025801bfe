"""The JSON Schema agrees with the loader about what is right and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from remediator.policy import json_schema
from remediator.policy.document import read
from tests.policy.words import VOCABULARY, good

SCHEMA = json_schema(VOCABULARY.catalogue)


def errors(*replace: tuple[str, str]) -> list[str]:
    value = read(good("a", *replace)["a.yaml"], "a.yaml")
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(value)]


def test_it_is_a_schema_for_both_drafts_that_editors_know() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft7Validator.check_schema({**SCHEMA, "$schema": "http://json-schema.org/draft-07/schema#"})


def test_a_good_policy_fits() -> None:
    assert errors() == []
    assert errors(("group: prod-gpu-workers", 'group: "${labels.group}"')) == []
    assert errors(("on_failure", "limits: {blast_radius: 30%, budget: [1 per 1h]}\non_failure")) == []
    assert errors(("on_failure", "limits: {blast_radius: 3}\non_failure")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("remedies:", "remedys:"),
        ("for: 5m", "for: 5"),
        ("for: 5m", "for: 5 minutes"),
        ("mode: enforce", "mode: enforced"),
        ("pool.resize", "pool.resise"),
        ("group: prod-gpu-workers", "grup: prod-gpu-workers"),
        ("add: 2", "add: 200"),
        ("add: 2", 'add: "${labels.n}"'),
        ("queue.depth", "queue.dept"),
        ("  within: 20m\n", ""),
        ('is: "> 50"', "is: 50"),
    ],
)
def test_a_bad_policy_does_not(old: str, new: str) -> None:
    assert errors((old, new))


def test_actions_and_checks_are_offered_with_their_descriptions() -> None:
    offered: Any = SCHEMA["$defs"]["ActionUse"]["properties"]["action"]["anyOf"]
    assert {one["const"]: one["description"] for one in offered} == {
        "pool.resize": "Add workers to a pool",
        "pool.drop": "Drop a pool",
    }
    assert SCHEMA["properties"]["for"]["description"].startswith("Firing at least this long")
    assert SCHEMA["properties"]["give_up"]["default"] == "30m"


def test_every_key_of_a_policy_is_described() -> None:
    undescribed = [
        name
        for name, shape in SCHEMA["properties"].items()
        if "description" not in shape and "$ref" not in shape and "anyOf" not in shape
    ]
    assert undescribed == []
