"""The rows of the table, on the terminal and in docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
HEAD = ("what", "floor", "remediator", "ratio", "wanted", "")


@dataclass(frozen=True)
class Row:
    """One line: what was measured beside what, and what is wanted.

    ratio: of remediator to the floor; None where there is no floor.
    met: whether what is wanted was reached.
    """

    what: str
    floor: str
    figure: str
    ratio: float | None
    wanted: str
    met: bool

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.what, self.floor, self.figure, ratio, self.wanted, "ok" if self.met else "MISSED")


def rate(alerts_s: float) -> str:
    return f"{alerts_s / 1000:.1f}k alerts/s"


def machine() -> str:
    """One line about where this was measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        model = found[1]
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {os.cpu_count()} cores ({model}), load generator included, {platform.system()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def text(rows: list[Row]) -> str:
    """For the terminal."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def markdown(rows: list[Row]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join([f"Measured {machine()}.", "", *lines])


def keep(rows: list[Row], page: Path = PAGE) -> None:
    """Put the table between the markers of docs/performance.md."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{after}")
