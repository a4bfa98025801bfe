"""The policy language: texts in, a validated and indexed `PolicySet` out.

Reads YAML with positions (`document`), validates it (`schema`, `uses`), compiles matchers into an
index (`matcher`, `index`), substitutes labels into selectors (`template`).

It must not do any of these: ask the clock, the network or the environment; write anything but the
optional cache of validated forms; guess where a file is wrong. Every fault is reported with file,
line and column, all of them at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remediator.policy.faults import PolicyErrors
    from remediator.policy.load import read_dir
    from remediator.policy.schema import json_schema
    from remediator.policy.set import PolicySet, compile_set
    from remediator.policy.vocabulary import Vocabulary

__all__ = ["PolicyErrors", "PolicySet", "Vocabulary", "compile_set", "json_schema", "read_dir"]

_HOME = {
    "PolicyErrors": "faults",
    "PolicySet": "set",
    "Vocabulary": "vocabulary",
    "compile_set": "set",
    "json_schema": "schema",
    "read_dir": "load",
}


def __getattr__(name: str) -> Any:
    """The names above, imported when first used: a module of this package alone stays light."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
