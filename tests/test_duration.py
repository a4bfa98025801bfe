"""Durations: what is read, what is refused, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.duration import LONGEST, parse
from remediator.model import Millis, span


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("0s", 0),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1m30s", 90_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("500ms", 500),
        ("90m", 5_400_000),
    ],
)
def test_reads(text: str, millis: int) -> None:
    assert parse(text) == millis


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "5 m",
        "-5m",
        "5m\n",
        " 5m",
        "1.5h",
        "30s1m",
        "5m5m",
        "5M",
        "1w",
        "1y",
        "\u0665m",
        "5min",
        "9" * 50 + "s",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write for example 30s"):
        parse(text)


def test_refuses_more_than_a_year() -> None:
    assert parse("366d") == LONGEST
    with pytest.raises(ValueError, match="the longest duration is 366d"):
        parse("366d1ms")


@given(st.integers(0, LONGEST))
def test_is_the_inverse_of_span(millis: int) -> None:
    assert parse(span(Millis(millis))) == millis
