"""Comparisons: parsing, units, and what holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import Permanent
from remediator.policy.comparison import Comparison, parse


@pytest.mark.parametrize(
    ("text", "op", "value", "unit"),
    [
        ("> 5%", ">", 5, "%"),
        ("< 500ms", "<", 500, "ms"),
        (">= 2Gi", ">=", 2, "Gi"),
        ("<=0.5", "<=", 0.5, ""),
        ("== -1", "==", -1, ""),
        ("!= 1e3", "!=", 1000, ""),
        ("  >  .5  ", ">", 0.5, ""),
    ],
)
def test_reads(text: str, op: str, value: float, unit: str) -> None:
    assert parse(text) == Comparison(op, value, unit)


@pytest.mark.parametrize(
    "text", ["", "5", "= 5", "=> 5", "> ", "> five", "> 5 %%", "> 1,000", "> inf", "> nan", "5 >"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a comparison|is not a unit"):
        parse(text)


def test_an_unknown_unit_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'parsecs' is not a unit; known units are .*ms"):
        parse("> 5parsecs")


@pytest.mark.parametrize(
    ("text", "value", "unit", "holds"),
    [
        # without a unit the number is in the check's own
        ("> 80", 81, "%", True),
        ("> 80", 0.81, "%", False),
        # percent against a ratio, both ways, exactly at the edge
        ("> 7%", 0.07, "", False),
        (">= 7%", 0.07, "", True),
        ("> 5%", 0.051, "", True),
        ("< 80%", 79.9, "%", True),
        # time
        ("< 500ms", 0.499, "s", True),
        ("< 500ms", 0.5, "s", False),
        ("> 1.5s", 1501, "ms", True),
        ("<= 2m", 120, "s", True),
        # bytes
        (">= 2Gi", 2 * 1024**3, "By", True),
        (">= 2Gi", 2 * 10**9, "By", False),
        (">= 2G", 2 * 10**9, "By", True),
        ("< 1Ki", 1, "Ki", False),
    ],
)
def test_holds(text: str, value: float, unit: str, holds: bool) -> None:
    assert parse(text).holds(value, unit) is holds


@pytest.mark.parametrize(("text", "unit"), [("> 5ms", ""), ("> 5%", "s"), ("> 1Gi", "s"), ("> 1s", "jobs")])
def test_units_that_measure_other_things_are_no_answer(text: str, unit: str) -> None:
    assert "measures" in parse(text).fault(unit)
    with pytest.raises(Permanent, match="write the number in the check's unit"):
        parse(text).holds(1, unit)


def test_a_unit_of_the_senders_own_compares_with_plain_numbers() -> None:
    assert parse("> 5").fault("jobs") == ""
    assert parse("> 5").holds(6, "jobs")


@pytest.mark.parametrize("op", [">", ">=", "<", "<=", "==", "!="])
def test_nan_fulfils_nothing(op: str) -> None:
    assert not parse(f"{op} 5").holds(math.nan, "")


@given(
    st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
    st.sampled_from(["", "%", "ms", "s", "Gi", "M"]),
)
def test_text_and_back(op: str, value: float, unit: str) -> None:
    written = f"{op} {value!r}{unit}"
    again = parse(str(parse(written)))
    assert (again.op, again.unit) == (op, unit)
    assert math.isclose(again.value, value, rel_tol=1e-14)
