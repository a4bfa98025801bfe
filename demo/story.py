"""What the demo prints: one line for each step, with the time it took."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Failure(Exception):
    """The demo did not go as it should; the message says what was seen."""


def _coloured(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\033[{code}m{text}\033[0m"


def title(text: str) -> None:
    print(_coloured(text, "1"), flush=True)


def note(text: str) -> None:
    """A line that belongs to the step before it."""
    print(_coloured(f"        {text}", "2"), flush=True)


def seen(at: str, text: str) -> None:
    """Something that the daemon did, with its time of day."""
    print(f"  {_coloured(at, '2')}  {text}", flush=True)


class Step:
    """One step while it goes on; `done` becomes the text of its line."""

    def __init__(self, doing: str) -> None:
        self.done = doing


@contextmanager
def step(doing: str) -> Iterator[Step]:
    """Show what is being done while it is, and what was done with its time when it is."""
    terminal = sys.stdout.isatty()
    if terminal:
        print(f"    …   {doing}", end="", flush=True)
    current = Step(doing)
    begun = time.monotonic()
    try:
        yield current
    except BaseException:
        print(f"{_erase(terminal)}  {_coloured('FAILED', '31')} {doing}", flush=True)
        raise
    took = time.monotonic() - begun
    print(f"{_erase(terminal)}  {_coloured(f'{took:4.1f} s', '32')} {current.done}", flush=True)


def _erase(terminal: bool) -> str:
    return "\r\033[K" if terminal else ""
