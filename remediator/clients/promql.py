"""Values from outside in a PromQL query: `$name` in a label matcher's double-quoted string, nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_TOKEN = re.compile(
    r"""
      "(?P<double>(?:[^"\\\n]|\\.)*)"
    | '(?:[^'\\\n]|\\.)*'
    | `[^`]*`
    | (?P<comment>\#[^\n]*)
    | (?P<open>["'`])
    | (?P<plain>[^"'`\#]+)
    """,
    re.VERBOSE,
)
_MATCHER = re.compile(r"(=~|!~|!=|=)\s*$")
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$-])")


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the query; `operator` is set where it is the inside of a matcher's double quotes."""

    text: str
    operator: str = ""


def placeholders(query: str) -> frozenset[str]:
    """The names of the placeholders in a query.

    Raises:
        ValueError: a placeholder stands where a value must not be put, or a string is not closed.
    """
    found: set[str] = set()
    for part in _parts(query):
        for match in _NAME.finditer(part.text):
            if not part.operator:
                raise ValueError(
                    f"${match[1]} may stand only in the double-quoted value of a label matcher, "
                    f'such as queue="${match[1]}"'
                )
            if part.text[: match.start()].endswith("\\"):  # it would escape the value's first character
                raise ValueError(f"a backslash stands before ${match[1]}; put another character between them")
            found.add(match[1])
    return frozenset(found)


def fill(query: str, values: Mapping[str, str]) -> str:
    """The query with each placeholder replaced by its value, which stays one literal value.

    In `=~` and `!~` the value is a regular expression's literal too: `.*` selects what is named `.*`.

    Raises:
        ValueError: as `placeholders`, or a value is missing.
    """
    missing = placeholders(query) - set(values)
    if missing:
        raise ValueError(f"no value for {', '.join(f'${name}' for name in sorted(missing))}")
    return "".join(
        _NAME.sub(lambda match, part=part: _escaped(values[match[1]], part.operator), part.text)  # type: ignore[misc]
        if part.operator
        else part.text
        for part in _parts(query)
    )


def _escaped(value: str, operator: str) -> str:
    # RE2 syntax, https://github.com/google/re2/wiki/Syntax; strings as in Go,
    # https://prometheus.io/docs/prometheus/latest/querying/basics/#string-literals
    if operator in ("=~", "!~"):
        value = _SPECIAL.sub(r"\\\1", value)
    value = value.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in value)


def _parts(query: str) -> Iterator[_Part]:
    at, before = 0, ""
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None or match["open"]:
            raise ValueError(f"a string that begins at character {at + 1} of the query is not closed")
        at = match.end()
        inside = match["double"]
        matcher = _MATCHER.search(before) if inside is not None else None
        if matcher is not None:
            yield _Part('"')
            yield _Part(inside, matcher[1])
            yield _Part('"')
        else:
            yield _Part(match.group())
        if match["comment"] is None:
            before = match.group()
