"""The database server's clock, as a process of several believes it.

Nobody can ask a server whether its clock was set. Who has looked before can tell, by the time that has
passed since by a clock that nobody sets. So every process compares each look with its former ones, and
goes on by the old time until the jump has been written: one transaction, beside which no other writes,
moves every timer and notes by how much time was moved in all. Whoever looks after it finds that in the
same row, in the same snapshot as the timers, and moves with them.

Where one process finds a jump and the others do not, it is that process which slept. So each notes now and
then that it lives by the time that the clock shows: a note that somebody else wrote lately is believed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from remediator.model import JUMP, SECOND, Instant, Millis
from remediator.store.tx import insert

if TYPE_CHECKING:
    from remediator.store.postgres.tx import PostgresTx

_READ = "SELECT value FROM meta WHERE key = 'clock'"
_OTHERS = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'remediator%' LIMIT 1
"""
_PUT = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"
_WIDE = 1.0
"""Seconds: what took longer to answer says too little about when it was asked to be gone by."""


class Note(msgspec.Struct, frozen=True):
    """What the replicas have in common: text in the row `clock` of `meta`.

    Args:
        number: one more with each note.
        moved: by how much timers have been moved in all, in milliseconds.
        at: the clock when it was written, by a process that lived by it.
    """

    number: int = 0
    moved: int = 0
    at: int = 0

    def __str__(self) -> str:
        return f"{self.number} {self.moved} {self.at}"


def note(text: str | None) -> Note:
    """A row as a value; without one nobody has noted anything."""
    return Note(*map(int, text.split())) if text else Note()


class ServerClock:
    """What this process knows of the server's clock. Used by all its threads.

    Args:
        passed: seconds since any beginning, by a clock that nobody sets; for tests.
    """

    def __init__(self, passed: Callable[[], float] = time.monotonic) -> None:
        self.passed = passed
        self._lock = threading.Lock()
        self._anchor: tuple[int, float, int] | None = None
        """The clock, when that was, and how far timers had been moved."""
        self._seen = Note()
        self._jump = 0.0
        self._joined = False

    @property
    def moved(self) -> int:
        """By how much timers had been moved in all when this process looked last."""
        return self._seen.moved

    def look(self, wall: int, seen: Note, asked: float) -> Instant:
        """What time it is: what the clock shows, or by how long ago it showed something else.

        Args:
            wall: what it shows, in milliseconds since 1970.
            seen: the note in the same snapshot.
            asked: `passed` before it was asked.
        """
        answered = self.passed()
        with self._lock:
            news = seen.number > self._seen.number
            stale = seen.number < self._seen.number
            if not stale:
                self._seen = seen
            anchor = self._anchor
            if anchor is None or not self._joined:
                self._anchor = (wall, (asked + answered) / 2, seen.moved)
                return Instant(wall)
            earliest, latest = _later(anchor, asked, seen.moved), _later(anchor, answered, seen.moved)
            ahead = wall - latest if wall > latest else min(0, wall - earliest)
            believed = abs(ahead) < JUMP or (news and _fresh(wall, seen))
            if not stale:
                self._jump = 0 if believed else ahead
            if not believed:
                return Instant(round(latest))
            # Not from a slow answer: time would be wrong by half of what it took.
            if not stale and (answered - asked < _WIDE or abs(ahead) >= JUMP):
                self._anchor = (wall, (asked + answered) / 2, seen.moved)
            return Instant(wall)

    def now(self) -> Instant:
        """The time that has come since the last look; there must have been one."""
        with self._lock:
            assert self._anchor is not None
            return Instant(round(_later(self._anchor, self.passed(), self._seen.moved)))

    def jump(self) -> Millis:
        """By how much the clock was ahead (negative: behind) at the last look; 0 where it had not jumped."""
        return Millis(round(self._jump))

    def joined(self) -> None:
        """From here on this process lives by the clock as it was at the last look."""
        self._joined = True


def _later(anchor: tuple[int, float, int], passed: float, moved: int) -> float:
    wall, then, before = anchor
    return wall + (passed - then) * SECOND + moved - before


def _fresh(wall: int, seen: Note) -> bool:
    """Whether somebody who lives by what the clock shows has just said so."""
    return 0 <= wall - seen.at < JUMP


def put(tx: PostgresTx, by: Millis = Millis(0)) -> None:
    """Note that this process lives by what the clock shows. Args: by: how far timers are moved."""
    before = _last(tx)
    new = Note(number=before.number + 1, moved=before.moved + by, at=tx.wall)
    tx.run(_PUT, {"key": "clock", "value": str(new)})


def joins(tx: PostgresTx, alone: bool) -> bool:
    """Note it as the first thing that a new process says, if that is safe: somebody has noted it lately,
    nobody ever has, or nobody else is there.

    Args:
        alone: nobody else has for longer than a replica that lives would need.
    """
    last = _last(tx)
    safe = alone or not last.number or _fresh(tx.wall, last) or tx.one(_OTHERS) is None
    if safe:
        put(tx)
    return safe


def _last(tx: PostgresTx) -> Note:
    row = tx.one(_READ)
    return note(row[0] if row is not None else None)
