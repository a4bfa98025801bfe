"""When windows open and close: the stretches of time in which nothing about them changes. Pure.

A window is read on a wall clock, and wall clocks jump. So an edge is not computed from the rules but
looked for: whatever could be one (the ends of its times, midnights, the changes of its zone's offset) is
tried, and the window itself is asked on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from remediator.model import DAY, Instant

if TYPE_CHECKING:
    from remediator.policy.window import TimeInterval, Window

LOOK = 40
"""Days in which an edge is looked for, in either direction: longer than any month."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which a window stays open, or stays closed.

    since: its first instant. until: the first that no longer belongs to it. None where that is more
        than LOOK days away.
    """

    open: bool
    since: Instant | None
    until: Instant | None


class Spans:
    """One window's spans. Remembers the last one asked for: the next question is nearly always about
    the same."""

    def __init__(self, intervals: tuple[TimeInterval, ...]) -> None:
        self._intervals = intervals
        self._last: tuple[int, int, Span] = (1, 0, Span(False, None, None))

    def at(self, now: Instant) -> Span:
        """The span that holds `now`."""
        first, last, span = self._last
        if first <= now < last:
            return span
        span = Span(self._open(now), *self._edges(now))
        begin = span.since if span.since is not None else now
        # an edge that was not found is looked for again, once it can have come near
        end = span.until if span.until is not None else now + DAY
        self._last = (begin, end, span)
        return span

    def _open(self, instant: int) -> bool:
        return any(interval.contains(Instant(instant)) for interval in self._intervals)

    def _edges(self, now: Instant) -> tuple[Instant | None, Instant | None]:
        today = (_EPOCH + timedelta(milliseconds=now)).date()
        open_now = self._open(now)
        since = until = None
        for back in range(LOOK + 1):
            edges = (at for at in reversed(self._on(today - back * _ONE)) if at <= now)
            since = next((Instant(at) for at in edges if self._open(at - 1) is not open_now), None)
            if since is not None:
                break
        for ahead in range(LOOK + 1):
            edges = (at for at in self._on(today + ahead * _ONE) if at > now)
            until = next((Instant(at) for at in edges if self._open(at) is not open_now), None)
            if until is not None:
                break
        return since, until

    def _on(self, day: date) -> list[int]:
        """Whatever could be an edge on a day of UTC, in order."""
        begin = _millis(datetime(day.year, day.month, day.day, tzinfo=UTC))
        found: set[int] = set()
        for interval in self._intervals:
            zone = ZoneInfo(interval.location)
            # a zone's date may be a day ahead of UTC's, or a day behind
            for near in (day - _ONE, day, day + _ONE):
                if interval.has_day(near) or interval.has_day(near - _ONE):
                    found.update(_turns(interval, zone, near))
        return sorted(at for at in found if begin <= at < begin + DAY)


def next_change(windows: Iterable[Window], now: Instant) -> Instant | None:
    """The next instant at which any of the windows opens or closes; None if that is far away."""
    ends = (window.spans.at(now).until for window in windows)
    return min((end for end in ends if end is not None), default=None)


def _turns(interval: TimeInterval, zone: ZoneInfo, day: date) -> Iterator[int]:
    """What could be an edge on one date of the zone's wall clock."""
    minutes = {0}
    for times in interval.times or ():
        minutes.update(minute for minute in times.minutes if minute < 1440)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)  # the zone is put in below
    for minute in minutes:
        wall = midnight + timedelta(minutes=minute)
        for fold in (0, 1):  # a time that the clock shows twice
            yield _millis(wall.replace(tzinfo=zone, fold=fold))
    begin = _millis(midnight.replace(tzinfo=zone))
    end = _millis((midnight + _ONE).replace(tzinfo=zone))
    if _offset(zone, begin) != _offset(zone, end):
        yield _jump(zone, begin, end)


def _jump(zone: ZoneInfo, begin: int, end: int) -> int:
    """The instant between the two at which the zone's offset changes."""
    before = _offset(zone, begin)
    while end - begin > 1:
        middle = (begin + end) // 2
        if _offset(zone, middle) == before:
            begin = middle
        else:
            end = middle
    return end


def _offset(zone: ZoneInfo, instant: int) -> timedelta | None:
    return (_EPOCH + timedelta(milliseconds=instant)).astimezone(zone).utcoffset()


def _millis(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
