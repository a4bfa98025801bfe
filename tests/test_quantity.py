"""Durations in parameters."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from remediator.contracts import Params
from remediator.model import DAY, MINUTE, SECOND, Millis
from remediator.quantity import Duration


class Wait(Params):
    wait: Annotated[Millis, Duration(SECOND, DAY), Field(json_schema_extra={"default": "1m"})] = MINUTE


def test_parameters_hold_milliseconds_and_are_stored_as_text() -> None:
    params = Wait.model_validate({"wait": "90s"})
    assert params.wait == 90_000
    stored = params.model_dump(mode="json")
    assert stored == {"wait": "1m30s"}
    assert Wait.model_validate(stored) == params


@pytest.mark.parametrize("value", ["0s", "2d", 60_000, 60.0, None, True])
def test_bounds_hold_and_a_number_without_unit_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match=r"outside 1s to 1d|has no unit"):
        Wait.model_validate({"wait": value})


def test_the_schema_for_editors_is_text() -> None:
    field = Wait.model_json_schema()["properties"]["wait"]
    assert (field["type"], field["default"]) == ("string", "1m")
    assert "from 1s to 1d" in field["description"]
