"""Faults of policy files: each with file, line and column, all reported together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from remediator.errors import ConfigurationError, PolicyError


class PolicyErrors(ConfigurationError):
    """Everything that is wrong with a set of policy files.

    Args:
        errors: at least one; kept sorted by file, line and column.
    """

    def __init__(self, errors: Iterable[PolicyError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda e: (e.file, e.line, e.column, e.message)))
        super().__init__("\n".join(str(error) for error in self.errors))


def did_you_mean(seen: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, else the list of what there is."""
    names = sorted(set(known))
    near = difflib.get_close_matches(seen[:100], names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not names:
        return "; there is none"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"; known here: {shown}"


def shorten(value: object, width: int = 80) -> str:
    """A seen value for a message: control characters escaped, long ones cut."""
    text = value if isinstance(value, str) else repr(value)
    return printable(text if len(text) <= width else f"{text[:width]}… ({len(text)} characters)")


def printable(text: str) -> str:
    """What a file or an alert says must not move the cursor of who reads a message about it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
