"""Reads what people write on the command line: durations, instants, label=value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

MOST_ID = 2**63 - 1
"""What the store can count to."""

_MATCHER = re.compile(r"[=~!{]")


def matchers(words: Sequence[str]) -> list[str]:
    """As in amtool: a bare word means `alertname=word`.

    Raises:
        typer.BadParameter: not a matcher.
    """
    from remediator.policy.matcher import parse

    texts = [word if _MATCHER.search(word) else f'alertname="{word}"' for word in words]
    for text in texts:
        try:
            parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return texts


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """`label=value` words as a mapping.

    Raises:
        typer.BadParameter: no `=`, no name, or one name twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set {pair!r}: write label=value")
        if name in found:
            raise typer.BadParameter(f"--set {name}: given twice")
        found[name] = value
    return found


def instant(text: str | None, name: str) -> int | None:
    """`2h` (ago), or RFC 3339 (without a zone it is UTC), as milliseconds.

    Raises:
        typer.BadParameter: neither.
    """
    if text is None:
        return None
    from remediator.clock import SystemClock
    from remediator.settings.values import parse_duration

    try:
        return SystemClock().now() - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{name} {text!r}: write a span before now (30m, 2h, 7d) or a time (2026-01-15T10:00:00Z)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def seconds(text: str, name: str) -> float:
    """A duration as seconds.

    Raises:
        typer.BadParameter: not a duration.
    """
    from remediator.settings.values import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise typer.BadParameter(f"{name} {text!r}: {error}") from None
