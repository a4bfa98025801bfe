"""Globs over target names: `postgres:*`. Only `*` and `?` mean anything."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> Any:
    parts = {"*": "(?s:.*)", "?": "(?s:.)"}
    return re2.compile("".join(parts.get(char) or re2.escape(char) for char in glob))


@lru_cache(maxsize=65_536)
def matches(glob: str, name: str) -> bool:
    """Whether the whole `name` fits."""
    return _compiled(glob).fullmatch(name) is not None
