"""One YAML file → plain values, with the position of each.

YAML 1.2 core scalars (https://yaml.org/spec/1.2.2/#103-core-schema): `NO`, `on` and `5:30` are text,
`010` is ten. Anchors, aliases, merge keys, tags, duplicate keys and second documents are faults, so a
small file stays small and a reviewer sees all of it in place.

It reads libyaml's events and not `compose()`: compose recurses in C and a deeply nested file crashes
the process, where here it is a fault of that file.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from remediator.errors import PolicyError
from remediator.policy.faults import printable

MAX_BYTES = 1_000_000
MAX_DEPTH = 24

Path = tuple[str | int, ...]
Positions = dict[Path, tuple[int, int]]
"""Path → (line, column), 1-based. A mapping's key is at `(*path, key, KEY)`."""
KEY = "\x00key"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCT = re.compile(r"0o[0-7]+", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""https://yaml.org/spec/1.2.2/#51-character-set"""
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMERIC = frozenset("0123456789+-.")
_START_MAPPING, _END_MAPPING = yaml.MappingStartEvent, yaml.MappingEndEvent
_START_LIST, _END_LIST = yaml.SequenceStartEvent, yaml.SequenceEndEvent


def read(text: str, file: str) -> Any:
    """Read one file's text.

    Returns:
        dicts, lists, str, int, float, bool and None.

    Raises:
        PolicyError: the first fault of syntax; after it nothing can be trusted.
    """
    return _Reader(text, file, None).document()


def positions(text: str, file: str) -> Positions:
    """Where each value of the file stands. Slower than `read`; only needed to report faults."""
    found: Positions = {}
    _Reader(text, file, found).document()
    return found


def locate(found: Positions, path: Path, key: bool = False) -> tuple[int, int]:
    """The position of `path`, or of the nearest thing around it that has one."""
    if key and (*path, KEY) in found:
        return found[(*path, KEY)]
    while path and path not in found:
        path = path[:-1]
    return found.get(path, (1, 1))


class _Reader:
    def __init__(self, text: str, file: str, found: Positions | None) -> None:
        self._text = text
        self._file = file
        self._found = found
        self._events = None

    def document(self) -> Any:
        size = len(self._text.encode("utf-8", "surrogatepass"))
        if size > MAX_BYTES:
            raise self._fault(f"the file has {size} bytes; at most {MAX_BYTES} are read", 0, 0)
        try:
            loader = _LOADER(self._text.removeprefix("\ufeff"))
        except (yaml.YAMLError, UnicodeEncodeError):
            raise self._character() from None
        try:
            return self._document(loader.get_event)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except yaml.YAMLError:
            raise self._character() from None
        finally:
            loader.dispose()

    def _document(self, get: Any) -> Any:
        get()  # the stream
        event = get()
        if isinstance(event, yaml.StreamEndEvent):
            raise self._fault("the file is empty", 1, 1)
        if (event.version and tuple(event.version) != (1, 2)) or event.tags:
            raise self._at("%YAML and %TAG lines are not allowed; files are read as YAML 1.2", event)
        value = self._node(get, get(), (), 0)
        get()  # the document's end
        event = get()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._at("a file holds one document; remove the second `---` and what follows", event)
        return value

    def _node(self, get: Any, event: Any, path: Path, depth: int) -> Any:
        kind = type(event)
        if kind is yaml.AliasEvent:
            raise self._at(
                f"aliases are not allowed (*{event.anchor}); repeat the value, or quote it if it is text",
                event,
            )
        if event.anchor is not None:
            raise self._at(
                f"anchors are not allowed (&{event.anchor}); repeat the value, or quote it if it is text",
                event,
            )
        if event.tag is not None:
            raise self._at(
                f"tags are not allowed ({event.tag}); put text that starts with ! in quotes", event
            )
        if self._found is not None:
            self._found[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        if kind is yaml.ScalarEvent:
            return event.value if event.style else self._scalar(event)
        if depth >= MAX_DEPTH:
            raise self._at(f"nested deeper than {MAX_DEPTH} levels", event)
        return (self._mapping if kind is _START_MAPPING else self._list)(get, path, depth)

    def _mapping(self, get: Any, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while type(event := get()) is not _END_MAPPING:
            if type(event) in (_START_MAPPING, _START_LIST):
                raise self._at("a key must be text; put text with { } [ ] in quotes", event)
            key = self._node(get, event, (*path, KEY), depth)
            if not isinstance(key, str):
                raise self._at(f"the key {event.value} must be text; put it in quotes", event)
            if key == "<<" and not event.style:
                raise self._at("merge keys (<<) are not allowed; repeat the values", event)
            if key in values:
                raise self._at(f"the key {key!r} stands here twice", event)
            below = (*path, key)
            if self._found is not None:
                mark = event.start_mark
                self._found[(*below, KEY)] = (mark.line + 1, mark.column + 1)
            values[key] = self._node(get, get(), below, depth + 1)
        return values

    def _list(self, get: Any, path: Path, depth: int) -> list[Any]:
        values: list[Any] = []
        while type(event := get()) is not _END_LIST:
            values.append(self._node(get, event, (*path, len(values)), depth + 1))
        return values

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in _NUMERIC:
            return text
        if _INT.fullmatch(text):
            return self._integer(text, 10, event)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _OCT.fullmatch(text):
            return self._integer(text[2:], 8, event)
        if _HEX.fullmatch(text):
            return self._integer(text[2:], 16, event)
        if _NOT_FINITE.fullmatch(text):
            raise self._at(f"{text} is not a usable number; put it in quotes if it is text", event)
        return text

    def _integer(self, digits: str, base: int, event: Any) -> int:
        if len(digits.lstrip("+-")) > 19:
            raise self._at("a number of more than 19 digits; put it in quotes if it is text", event)
        return int(digits, base)

    def _syntax(self, error: yaml.MarkedYAMLError) -> PolicyError:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = self._text.splitlines()
        seen = lines[line - 1] if 0 < line <= len(lines) else ""
        message = f"not readable as YAML: {error.problem or error.context or 'bad syntax'}"
        return self._fault(message + _hint(seen, error.problem or ""), line, column)

    def _character(self) -> PolicyError:
        """The reader stops at a character that YAML does not allow, and only there."""
        found = _FORBIDDEN.search(self._text)
        before = self._text[: found.start()] if found else ""
        named = f"the character U+{ord(found[0]):04X} is" if found else "a character is"
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return self._fault(f"{named} not allowed in YAML; remove it", line, column)

    def _at(self, message: str, event: Any) -> PolicyError:
        return self._fault(message, event.start_mark.line + 1, event.start_mark.column + 1)

    def _fault(self, message: str, line: int, column: int) -> PolicyError:
        return PolicyError(printable(message), self._file, line, column)


def _hint(line: str, problem: str) -> str:
    """Where quotes are what is missing, say so and show them."""
    bare = line.split("#", 1)[0]
    if re.search(r"(?:^|[\s,{:])is:\s*[><=!]", bare):
        return '; a comparison needs quotes: is: "> 50"'
    if re.search(r"""[\s:,\[{]\$\{""", bare):
        return '; a value with ${…} needs quotes: "${labels.queue}"'
    if re.match(r"\s*-\s*[\w.]+\s*[=!]", bare):
        return "; put the whole matcher in single quotes: - 'alertname=\"A: b\"'"
    if "cannot start any token" in problem:
        return "; put a value that starts with % @ ` or a tab in quotes, and indent with spaces"
    if "mapping values are not allowed" in problem:
        return "; put a value with `: ` in it in quotes"
    return ""
