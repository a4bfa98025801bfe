"""YAML: 1.2 scalars, faults with their place, and files that mean harm."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import PolicyError
from remediator.policy import document
from remediator.policy.document import MAX_BYTES, locate, positions, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("yes", "yes"),
        ("5:30", "5:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("5m", "5m"),
        ("+", "+"),
        ("-", [None]),
        ("30%", "30%"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read(f"k: {text}\n" if text != "-" else "k:\n  -\n", "f.yaml")["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (1, 1), "empty"),
        ("# only a comment\n", (1, 1), "empty"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), "'a' stands here twice"),
        ("a: &x 1\nb: *x\n", (1, 4), "anchors are not allowed"),
        ("b: *x\n", (1, 4), "aliases are not allowed"),
        ("a:\n  <<: {b: 1}\n", (2, 3), "merge keys"),
        ("a: !!python/object/apply:os.system [id]\n", (1, 4), "tags are not allowed"),
        ("a: 1\n---\nb: 2\n", (2, 1), "one document"),
        ("%YAML 1.1\n---\na: no\n", (1, 1), "YAML 1.2"),
        ("1: a\n", (1, 1), "the key 1 must be text"),
        ("{a: 1}: b\n", (1, 1), "a key must be text"),
        ("a: .nan\n", (1, 4), "not a usable number"),
        ("a: -.inf\n", (1, 4), "not a usable number"),
        ("a: 99999999999999999999\n", (1, 4), "more than 19 digits"),
        ("is: > 5\n", (1, 7), 'a comparison needs quotes: is: "> 50"'),
        ("is: != 5\n", (1, 5), "put text that starts with ! in quotes"),
        ("- with: {queue: ${labels.queue}}\n", (1, 18), "needs quotes"),
        ("match:\n  - alertname=A: b: c\n", (2, 19), "put the whole matcher in single quotes"),
        ("a: @b\n", (1, 4), "quotes"),
        ("a: [1\n", (2, 1), "not readable as YAML"),
        ("a: b: c\n", (1, 5), "in quotes"),
        ("a:\n\t- b\n", (2, 1), "tab"),
        ("a: 1\nb: é\x00\n", (2, 5), "the character U+0000 is not allowed"),
        ("\x7f", (1, 1), "the character U+007F is not allowed"),
        ("a: \ud800", (1, 4), "the character U+D800 is not allowed"),
        ("[" * 500, (1, 25), "nested deeper than 24 levels"),
        ("- " * 500 + "a", (1, 49), "nested deeper than 24 levels"),
    ],
)
def test_faults_have_a_place(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(text, "f.yaml")
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line, caught.value.column) == ("f.yaml", *place)


def test_a_file_that_unfolds_itself_is_refused_at_once() -> None:
    laughs = "a: &a [l, l, l]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*a, *a]\n" for i in range(9))
    with pytest.raises(PolicyError, match=r"f\.yaml:1:4: anchors are not allowed"):
        read(laughs, "f.yaml")


def test_a_large_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(PolicyError, match=f"{MAX_BYTES + 4} bytes; at most {MAX_BYTES}"):
        read("a: " + "é" * (MAX_BYTES // 2) + "b", "f.yaml")


@pytest.mark.parametrize(
    "text", ["[" * 900_000, "{" * 900_000, "- " * 450_000, "a: " * 300_000, "? " * 450_000]
)
def test_deep_nesting_costs_no_time_and_no_stack(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(PolicyError):
        read(text, "f.yaml")
    assert time.perf_counter() - started < 5


def test_a_byte_order_mark_is_left_out() -> None:
    assert read("\ufeffa: 1\n", "f.yaml") == {"a": 1}


def test_positions_of_values_and_keys() -> None:
    found = positions("a: 1\nb:\n  - c\n  - {d: x}\n", "f.yaml")
    assert locate(found, ("b", 1, "d")) == (4, 9)
    assert locate(found, ("b", 1, "d"), key=True) == (4, 6)
    assert locate(found, ("b", 1, "gone", "deeper")) == (4, 5)
    assert locate(found, ("nothing",)) == (1, 1)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(_VALUES)
def test_json_is_read_as_what_it_is(value: object) -> None:
    text = json.dumps({"k": value}, ensure_ascii=False)
    if len(text) > 900:  # YAML ends a simple key after 1024 characters
        return
    assert document.read(text, "f.yaml") == {"k": value}


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_a_fault(text: str) -> None:
    with contextlib.suppress(PolicyError):
        read(text, "f.yaml")
