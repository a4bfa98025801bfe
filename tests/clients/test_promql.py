"""A value from outside stays one literal value in a PromQL query."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clients import promql

PLACES = {
    'up{job="$job"}': {"job"},
    'up{job=~"api-$job|$other",x!="y"}': {"job", "other"},
    'sum(up{job = "$job"}) > 5 # costs $5 and $none': None,
    'label_replace(up, "a", "$1", "b", "(.*)")': set(),
    'up{job=~"end$"}': set(),
    "up{job='$job'}": None,
    "up{job=`$job`}": None,
    "up{$job}": None,
    'up{"$job"="x"}': None,
    'label_replace(up, "$job", "x", "b", "c")': None,
    "$metric": None,
    'up{job="a\\$job"}': None,
    'up{job="open}': None,
}


@pytest.mark.parametrize("query", PLACES)
def test_placeholders_stand_only_in_the_double_quoted_value_of_a_matcher(query: str) -> None:
    wanted = PLACES[query]
    if wanted is None:
        with pytest.raises(ValueError, match=r"\$job|\$metric|\$5|\$none|not closed"):
            promql.placeholders(query)
    else:
        assert promql.placeholders(query) == wanted


def test_a_value_is_a_literal_in_a_regular_expression_too() -> None:
    assert promql.fill('{a=~"x-$v",b="$v"}', {"v": '.*"}'}) == '{a=~"x-\\\\.\\\\*\\"\\\\}",b=".*\\"}"}'


def test_an_absent_value_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no value for \$job"):
        promql.fill('up{job="$job"}', {})


def go_string(text: str) -> str:
    """What Prometheus reads between the double quotes (Go's rules), for the escapes that are used."""
    parts = re.findall(r'\\U([0-9a-f]{8})|\\(["\\])|([^"\\\n])', text)
    assert "".join(f"\\U{a}" if a else f"\\{b}" if b else c for a, b, c in parts) == text, text
    return "".join(chr(int(a, 16)) if a else b or c for a, b, c in parts)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_whatever_the_value_the_query_keeps_its_form_and_means_that_value(value: str) -> None:
    query = promql.fill('{a="$v"}', {"v": value})
    assert go_string(query.removeprefix('{a="').removesuffix('"}')) == value
    pattern = go_string(promql.fill('{a=~"$v"}', {"v": value}).removeprefix('{a=~"').removesuffix('"}'))
    assert re.fullmatch(pattern, value)
    if value:
        assert not re.fullmatch(pattern, value + "x")
