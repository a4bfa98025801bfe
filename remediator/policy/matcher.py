r"""Alertmanager's label matchers: `alertname="QueueDepthHigh"`, `queue=~"prod-.+"`.

The grammar and its oddities are Alertmanager's own (pkg/labels/parse.go, and matchers/parse for
label names in UTF-8): an entry may hold several matchers with commas between them and braces around
them; values may stand without quotes; within a value `\"`, `\\` and `\n` are escapes. Regular
expressions are RE2 and match the whole value. A label that is absent has the value "".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import re2

from remediator.policy.faults import shorten

MAX_LENGTH = 4096
_OPERATORS = ("=~", "!~", "!=", "=")
_CLASSIC = re.compile(
    r"[\t\n\f\r ]*([a-zA-Z_:][a-zA-Z0-9_:]*)[\t\n\f\r ]*(=~|=|!=|!~)[\t\n\f\r ]*(.*)", re.DOTALL | re.ASCII
)
_UTF8 = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|([^\s{}!=~,\\"'`]+))\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s{}!=~,\\"'`]+))\s*""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_LITERALS = re.compile(r"[\w \-:/@%,]+(?:\|[\w \-:/@%,]+)*")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class Matcher:
    """One condition on one label. The regular expression is compiled when it is first needed."""

    __slots__ = ("_regex", "name", "op", "value")

    def __init__(self, name: str, op: str, value: str) -> None:
        self.name = name
        self.op = op
        self.value = value
        self._regex: Any = None

    def __str__(self) -> str:
        name = (
            self.name
            if re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", self.name, re.ASCII)
            else _quoted(self.name)
        )
        return f"{name}{self.op}{_quoted(self.value)}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Matcher):
            return NotImplemented
        return (self.name, self.op, self.value) == (other.name, other.op, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.value))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.holds(labels.get(self.name, ""))

    def holds(self, value: str) -> bool:
        """Whether it holds for a label's value, "" where the label is absent."""
        if self.op == "=":
            return value == self.value
        if self.op == "!=":
            return value != self.value
        return self._full(value) is (self.op == "=~")

    def literals(self) -> tuple[str, ...]:
        """The only values it can hold for, where they can be listed and "" is not one of them."""
        if self.op == "=":
            return (self.value,) if self.value else ()
        if self.op == "=~" and _LITERALS.fullmatch(self.value):
            return tuple(dict.fromkeys(self.value.split("|")))
        return ()

    def compile(self) -> None:
        """Compile the regular expression now.

        Raises:
            ValueError: it is not one, or it would need too much memory.
        """
        if self.op in ("=", "!=") or self._regex is not None:
            return
        # Go refuses \C (a single byte), RE2 does not: Alertmanager's behaviour is the rule here
        if re.search(r"(?<!\\)(?:\\\\)*\\C", self.value):
            raise ValueError(f"{self}: \\C is not allowed in a regular expression")
        try:
            self._regex = re2.compile(self.value, options=_OPTIONS)
        except re2.error as error:
            detail = error.args[0] if error.args else "bad syntax"
            text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
            raise ValueError(f"{self}: not a regular expression (RE2): {text}") from None

    def _full(self, value: str) -> bool:
        if self._regex is None:
            self.compile()
        try:
            found = self._regex.fullmatch(value)
        except UnicodeEncodeError:  # half of a surrogate pair: what Go reads there is U+FFFD
            clean = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            found = self._regex.fullmatch(clean)
        return found is not None


def parse(text: str, check: bool = True) -> tuple[Matcher, ...]:
    """Read one entry of `match:`.

    Args:
        text: the entry.
        check: compile regular expressions now; False only for an entry that was checked before.

    Raises:
        ValueError: not matchers, or a regular expression that does not compile.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a matcher of {len(text)} characters; at most {MAX_LENGTH} are read")
    # Alertmanager drops a brace on one side too, and so makes another expression of a=~x{2}
    if text.strip().startswith("{") is not text.strip().endswith("}"):
        raise ValueError(f"{shorten(text)!r} has a brace on one side only; put the value in double quotes")
    inside = text.strip().removeprefix("{").removesuffix("}")
    matchers = tuple(_one(part) for part in _split(inside))
    if not matchers:
        raise ValueError('an entry without a matcher; write for example alertname="QueueDepthHigh"')
    if check:
        for matcher in matchers:
            matcher.compile()
    return matchers


def _split(text: str) -> list[str]:
    """At commas outside double quotes; a last comma may be followed by nothing."""
    parts: list[str] = []
    quoted = escaped = False
    start = 0
    for position, char in enumerate(text):
        if char == "," and not quoted:
            parts.append(text[start:position])
            start = position + 1
            escaped = False
        elif char == '"':
            quoted, escaped = (quoted, False) if escaped else (not quoted, False)
        else:
            escaped = char == "\\" and not escaped
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts


def _one(text: str) -> Matcher:
    found = _CLASSIC.fullmatch(text)
    if found is not None:
        name, op, raw = found.groups()
        try:
            return Matcher(name, op, _value(raw.rstrip("\t\n\f\r ")))
        except ValueError:
            if (wide := _utf8(text)) is not None:
                return wide
            raise
    if (wide := _utf8(text)) is not None:
        return wide
    raise ValueError(f'{shorten(text)!r} is not a matcher; write for example queue=~"prod-.+"')


def _value(raw: str) -> str:
    """Unescape a value as Alertmanager's classic parser does."""
    want_quote = raw.startswith('"')
    body = raw[1:] if want_quote else raw
    out: list[str] = []
    position, last = 0, len(body) - 1
    while position <= last:
        char = body[position]
        if char == "\\" and position < last:
            position += 1
            follower = body[position]
            out.append({"n": "\n", '"': '"', "\\": "\\"}.get(follower, "\\" + follower))
        elif char == '"':
            if not want_quote or position < last:
                raise ValueError(f'{shorten(raw)} has a " inside; write \\" there')
            want_quote = False
        else:
            out.append(char)
        position += 1
    if want_quote:
        raise ValueError(f'{shorten(raw)} has no closing "')
    return "".join(out)


def _utf8(text: str) -> Matcher | None:
    found = _UTF8.fullmatch(text)
    if found is None:
        return None
    quoted_name, name, op, quoted_value, value = found.groups()
    label = _unquote(quoted_name) if quoted_name is not None else name
    wanted = _unquote(quoted_value) if quoted_value is not None else value
    if label is None or wanted is None:
        return None
    return Matcher(label, op, wanted)


def _unquote(text: str) -> str | None:
    def character(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES[code]

    try:
        return _ESCAPE.sub(character, text)
    except KeyError:
        return None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
