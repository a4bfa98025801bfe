"""The names that policies may use: actions, checks, connections, senders, notifiers."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediator.contracts import Action, Catalogue, Check

LANGUAGE = 1
"""The version of the policy language."""


@dataclass(frozen=True)
class Vocabulary:
    """What a policy set is validated against.

    Args:
        catalogue: the actions and checks.
        connections: name of a connection in the settings → its kind.
        senders: names of the senders in the settings.
        notifiers: names of the notifiers in the settings; `log` is always there.
    """

    catalogue: Catalogue
    connections: Mapping[str, str] = field(default_factory=dict)
    senders: frozenset[str] = frozenset()
    notifiers: frozenset[str] = frozenset()

    def digest(self) -> str:
        """Changes whenever a policy that was valid could have become invalid, or the other way round."""
        parts = [
            LANGUAGE,
            _package(),
            sorted(self.connections.items()),
            sorted(self.senders),
            sorted(self.notifiers),
            [_described(action) for action in self.catalogue.actions()],
            [_described(check) for check in self.catalogue.checks()],
        ]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _described(thing: Action[Any] | Check[Any]) -> list[object]:
    kind = type(thing)
    return [
        thing.name,
        getattr(thing, "irreversible", None),
        getattr(thing, "unit", None),
        _model(thing.params),
        _stamp(getattr(sys.modules.get(kind.__module__), "__file__", None)),
    ]


@lru_cache(maxsize=4096)
def _model(model: type[BaseModel]) -> str:
    # marks like Selector are not part of a JSON Schema, so the fields' own descriptions are added
    marked = re.sub(r" at 0x[0-9a-f]+", "", repr(model.model_fields))
    return json.dumps(model.model_json_schema(), sort_keys=True) + marked


@lru_cache(maxsize=1)
def _package() -> list[object]:
    """The rules themselves: this package's files."""
    return [_stamp(str(file)) for file in sorted(Path(__file__).parent.glob("*.py"))]


def _stamp(file: str | None) -> object:
    if file is None:
        return None
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return [file, stat.st_size, stat.st_mtime_ns]
