"""Reads a YAML file into plain data and remembers on which line each value stands.

Scalars are YAML 1.2's (`no` and `5:30` are text); duplicate keys, aliases and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from remediator.errors import ConfigurationError

Path = tuple[str | int, ...]

_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value", "merge"}
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read(text: str, file: str) -> tuple[dict[str, Any], Mapping[Path, int]]:
    """Parse a document whose root is a mapping.

    Returns:
        The data, and the 1-based line of each value by its path.

    Raises:
        ConfigurationError: with file:line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise ConfigurationError(f"{where}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigurationError(f"{file}: nested too deeply") from None
    lines: dict[Path, int] = {}
    if root is None:
        return {}, lines
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{file}:1: the file must be a mapping of sections, e.g. `server: …`")
    value = _value(root, (), file, lines, set())
    assert isinstance(value, dict)
    return value, lines


def _value(node: yaml.Node, path: Path, file: str, lines: dict[Path, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in seen:
        raise ConfigurationError(f"{file}:{line}: aliases (*name) are not allowed; write the value out")
    seen.add(id(node))
    # A tag that stands in the file (`!!python/object`) shows as one that no plain value has.
    if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
        raise ConfigurationError(f"{file}:{line}: tags ({node.tag}) are not allowed")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, file, lines, seen)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, n), file, lines, seen) for n, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    text: str = node.value
    return text if node.style is not None else _scalar(text)


def _mapping(
    node: yaml.MappingNode, path: Path, file: str, lines: dict[Path, int], seen: set[int]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigurationError(f"{file}:{line}: a key must be plain text")
        key: str = key_node.value
        if key in found:
            first = lines[(*path, key)]
            raise ConfigurationError(f"{file}:{line}: {key!r} stands twice; it was given on line {first}")
        lines[(*path, key)] = line
        found[key] = _value(value_node, (*path, key), file, lines, seen)
    return found


def _scalar(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
