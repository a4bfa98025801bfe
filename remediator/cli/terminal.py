"""Plain tables as kubectl prints them: aligned columns, no boxes, nothing cut off."""

from __future__ import annotations

import os
import sys
import textwrap
import time
import unicodedata
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

import typer

Row = Sequence[Any]


def table(head: Sequence[str], rows: Sequence[Row], empty: str = "nothing found") -> str:
    """Aligned columns. Without rows it says so, which is not the same as having printed nothing."""
    if not rows:
        return empty
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(width(line[n]) for line in [list(head), *cells]) for n in range(len(head))]
    lines = [_line(head, widths)]
    if coloured():
        lines[0] = typer.style(lines[0], bold=True)
    return "\n".join([*lines, *(_line(line, widths) for line in cells)])


def pairs(rows: Sequence[tuple[str, Any]]) -> str:
    """`name  value` lines; those without a value are left out."""
    kept = [(name, cell(value)) for name, value in rows if value not in (None, "")]
    widest = max((width(name) for name, _ in kept), default=0)
    return "\n".join(f"{name}{' ' * (widest - width(name))}  {value}" for name, value in kept)


def cell(value: Any) -> str:
    """One value as one line, without control characters: labels are hostile input."""
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):
        return " ".join(f"{key}={cell(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(cell(inner) for inner in value) or "-"
    return safe(str(value))


def safe(text: str) -> str:
    """Text that cannot drive the terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def wrapped(text: str, indent: str = "") -> str:
    """Broken at the terminal's width; when piped, one line as it is."""
    if not sys.stdout.isatty():
        return indent + text
    return textwrap.fill(
        text, get_terminal_size().columns, initial_indent=indent, subsequent_indent=indent + "  ",
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def bold(text: str) -> str:
    return typer.style(text, bold=True) if coloured() else text


def coloured() -> bool:
    """On a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def width(text: str) -> int:
    """How many columns a terminal gives it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [text + " " * (most - width(text)) for text, most in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def intent(one: dict[str, Any]) -> str:
    """What was done, from and to: `ecs.scale on ecs:api: desired=2 → desired=4 (applied)`"""
    plan = one["plan"]
    change = f"{cell(plan['before'])} → {cell(plan['after'])}"
    return f"{plan['action']} on {cell(plan['target'])}: {change} ({one['outcome']})"


class Progress:
    """One line on a terminal that says how far long work is; nothing where the errors are piped."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def tell(self, what: str, done: int, of: int) -> None:
        """Args: of: how many there are; 0 where that is not known."""
        now = time.monotonic()
        if not self._shown or (now < self._next and done != of):
            return
        self._next = now + 0.1
        share = f"  {done}/{of} ({100 * done // of}%)" if of else ""
        self._write(f"{safe(what)}{share}")

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        typer.echo(f"\r{line[: get_terminal_size().columns - 1]}\033[K", err=True, nl=False)
