"""The OpenAPI document is true: schemathesis asks everything in it and checks every answer against it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.web.served import Running

API_PAGE = Path(__file__).parent.parent.parent / "docs" / "api.md"
OPERATIONS = 34
"""How many the document has; a new one is a new line here, so that none is dropped unnoticed."""

ENDLESS = "/api/v1/live"
"""Its answer does not end, so it has tests of its own."""

NOTHING_TO_GET_WRONG = ("/healthz", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def operations(guarded: Running) -> list[Any]:
    """Those of the document that the daemon serves."""
    schema = schemathesis.openapi.from_url(f"{guarded.url}/api/v1/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_answer_is_documented(operations: list[Any], mode: schemathesis.GenerationMode) -> None:
    assert len(operations) == OPERATIONS
    for operation in operations:
        if operation.path == ENDLESS:
            continue
        if mode is schemathesis.GenerationMode.NEGATIVE and operation.path in NOTHING_TO_GET_WRONG:
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=10,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def asked(case: schemathesis.Case) -> None:
            # A query has no objects and no lists: written as text, one may be as good as any other text.
            assume(not any(isinstance(value, (dict, list)) for value in (case.query or {}).values()))
            token = "operator-token-for-tests"
            if case.path == "/webhooks/{sender}":
                case.path_parameters["sender"], token = "am", "am-token-for-tests"
            # A matcher or a sender's body is more than its schema can say, so some of what the
            # schema allows is refused all the same.
            case.call_and_validate(
                headers={"Authorization": f"Bearer {token}"}, excluded_checks=[positive_data_acceptance]
            )

        asked()


def test_every_operation_is_described(local: Running) -> None:
    with local.client() as client:
        document = client.get("/api/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}"
            for status, answer in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(answer["content"]) == ["application/problem+json"], (
                        f"{method} {path} {status}"
                    )


def test_the_documented_table_is_the_whole_interface(local: Running) -> None:
    with local.client() as client:
        document = client.get("/api/v1/openapi.json").json()
    served = {
        f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations
    }
    rows = re.findall(r"^\| `((?:GET|POST) [^`]+)`", API_PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(served)
