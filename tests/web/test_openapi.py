"""The OpenAPI document is true: schemathesis asks everything in it and checks every answer against it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.web.served import Running


@pytest.fixture(scope="module")
def schema(local: Running) -> Any:
    """The document as the daemon serves it."""
    return schemathesis.openapi.from_url(f"{local.url}/api/v1/openapi.json")


lazy = schemathesis.pytest.from_fixture("schema")


@lazy.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_documented(case: schemathesis.Case) -> None:
    case.call_and_validate()


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
