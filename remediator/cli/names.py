"""The names that policy files use: connections with their kind, senders, notifiers.

`init` writes settings for them; `policies check` without settings takes them as given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remediator.contracts import Catalogue, ConnectionOf
from remediator.errors import PolicyError
from remediator.policy import document


@dataclass(frozen=True, slots=True)
class Names:
    """connections: name → kind."""

    connections: Mapping[str, str]
    senders: frozenset[str]
    notifiers: frozenset[str]


def used(files: Mapping[str, str], catalogue: Catalogue) -> Names:
    """What the files name. A file that cannot be read names nothing; compiling it says why."""
    connections: dict[str, str] = {}
    senders: set[str] = set()
    notifiers: set[str] = set()
    for file, text in files.items():
        try:
            root = document.read(text, file)
        except PolicyError:
            continue
        if not isinstance(root, dict):
            continue
        senders |= set(_texts(root.get("from")))
        for entry in _mappings(root):
            notifiers |= set(_texts(entry.get("notify")))
            for name, kind in _connections(entry, catalogue):
                connections.setdefault(name, kind)
    return Names(connections, frozenset(senders), frozenset(notifiers))


def _connections(entry: Mapping[str, Any], catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    action, check = entry.get("action"), entry.get("check")
    found: Any = None
    if isinstance(action, str):
        found = catalogue.action(action)
    elif isinstance(check, str):
        found = catalogue.check(check)
    given = entry.get("with")
    if found is None or not isinstance(given, dict):
        return
    for field, info in found.params.model_fields.items():
        name = given.get(info.alias or field)
        for mark in info.metadata:
            if isinstance(mark, ConnectionOf) and isinstance(name, str):
                yield name, mark.kind


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _mappings(inner)


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
