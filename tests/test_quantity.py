"""Durations in parameters."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from remediator.contracts import Params
from remediator.model import DAY, HOUR, MINUTE, SECOND, Millis, span
from remediator.quantity import Duration, millis


class Wait(Params):
    wait: Annotated[Millis, Duration(SECOND, DAY), Field(json_schema_extra={"default": "1m"})] = MINUTE


@pytest.mark.parametrize(
    ("text", "value"),
    [("30s", 30 * SECOND), ("5m", 5 * MINUTE), ("1h30m", HOUR + 30 * MINUTE), ("7d", 7 * DAY)],
)
def test_durations_are_numbers_with_units(text: str, value: int) -> None:
    assert millis(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "5M", "30m1h", "1.5h", "5m\n", "\u0665m", "9999999999s"]
)
def test_anything_else_is_an_error_that_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like 30s, 5m"):
        millis(text)


@given(st.integers(0, 300 * DAY))
def test_what_span_writes_is_read_back(value: int) -> None:
    assert millis(span(value)) == value


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
