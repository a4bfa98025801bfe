"""Of a statement only its shape is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clients.sql import shape

CASES = {
    "SELECT * FROM users WHERE email = 'a@b.c' AND id = 42": "SELECT * FROM users WHERE email = ? AND id = ?",
    "select 'it''s', E'a\\'b', U&'d\\0061t', x'1F', 1.5e-3, .5, -7": "select ?, …, -?",
    "SELECT $$body $ 'x'$$, $fn$ a $$ b $fn$, $1": "SELECT ?, …, $1",
    "SELECT 1 -- card 4111\n FROM t1 /* a /* nested */ b */ WHERE c2 = $2": "SELECT ? FROM t1 WHERE c2 = $2",
    "INSERT INTO t VALUES (1, 'a', 2,3)": "INSERT INTO t VALUES (?, …)",
    'SELECT "Col 1" FROM "T"': 'SELECT "Col 1" FROM "T"',
    "SELECT *\n\n  FROM\tt": "SELECT * FROM t",
    "ALTER ROLE app PASSWORD 'hunter2": "ALTER ROLE app PASSWORD ? …",
    "SELECT 'a\\' , 'hunter2'": "SELECT ? …",
    "SELECT $$cut off": "SELECT ?",
    "SELECT /* cut off hunter2": "SELECT",
    "": "",
}


@pytest.mark.parametrize("text", CASES)
def test_literals_and_comments_are_left_out(text: str) -> None:
    assert shape(text) == CASES[text]


def test_a_long_statement_is_shortened() -> None:
    assert shape("SELECT " + "c, " * 200, length=50) == ("SELECT " + "c, " * 200)[:49] + "…"


@given(st.text(alphabet="ab'\\\"$/*-%1 ;\n", max_size=40))
def test_a_value_that_is_quoted_as_postgresql_does_never_shows(value: str) -> None:
    """Quoted with doubled quotes, whatever is inside; a marker beside it tells where it would show."""
    secret = f"zzz{value}zzz"
    quoted = "'" + secret.replace("'", "''") + "'"
    assert "zzz" not in shape(f"SELECT * FROM t WHERE a = {quoted} AND b = {quoted}", length=10_000)


@given(st.text(max_size=200))
def test_any_text_has_a_shape(text: str) -> None:
    assert len(shape(text)) <= 200
    assert "\n" not in shape(text)
