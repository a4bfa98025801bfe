"""`windows.yaml`: named spans of time in Alertmanager's `time_intervals` syntax, and what they do.

The rules are those of https://prometheus.io/docs/alerting/latest/configuration/#time_interval-0
(timeinterval/timeinterval.go): every kind of range that is given must contain the instant, as read on
the wall clock of `location` (UTC by default); times exclude their end; days of the month may count from
its end and are clamped to it.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator

from remediator.model import DAY, HOUR, MINUTE, Instant, Millis, span
from remediator.policy import glob
from remediator.policy.faults import did_you_mean, shorten
from remediator.policy.fields import Frozen, Positive
from remediator.policy.span import Spans

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = tuple(name.lower() for name in calendar.month_name)
_TIME = re.compile(r"(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = Millis(30 * DAY)
"""The longest that a window is announced before it begins."""


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends belong to it."""

    first: int
    last: int
    text: str

    def __str__(self) -> str:
        return self.text

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


def _range(value: object, read: Callable[[str], int]) -> Range:
    if isinstance(value, Range):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f'{shorten(value)} must be text, in quotes: "monday:friday"')
    first, colon, last = value.lower().partition(":")
    begin = read(first)
    return Range(begin, read(last) if colon else begin, value)


def _ordered(found: Range) -> Range:
    if found.first > found.last:
        raise ValueError(f"{found.text!r} ends before it starts; write two ranges")
    return found


def _weekday(text: str) -> int:
    if text not in _WEEKDAYS:
        raise ValueError(f"{shorten(text)!r} is not a weekday{did_you_mean(text, _WEEKDAYS)}")
    return _WEEKDAYS.index(text)


def _month(text: str) -> int:
    number = _MONTHS.index(text) if text in _MONTHS[1:] else _number(text)
    if not 1 <= number <= 12:
        raise ValueError(f"{shorten(text)!r} is not a month; write january to december, or 1 to 12")
    return number


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,4}", text):
        raise ValueError(f"{shorten(text)!r} is not a number here")
    return int(text)


def _days(value: object) -> Range:
    found = _range(value, _number)
    for day in (found.first, found.last):
        if day == 0 or not -31 <= day <= 31:
            raise ValueError(f"{day} is not a day of the month; write 1 to 31, or -1 (the last) to -31")
    if found.first < 0 < found.last:
        raise ValueError(f"{found.text!r}: a range that starts from the month's end must also end there")
    # the shortest month has 28 days: what is never in order there is a mistake
    begin, end = (day if day > 0 else 28 + day for day in (found.first, found.last))
    if begin > end:
        raise ValueError(f"{found.text!r} always ends before it starts")
    return found


Weekdays = Annotated[
    Range,
    PlainValidator(lambda value: _ordered(_range(value, _weekday)), json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]
Days = Annotated[
    Range, PlainValidator(_days, json_schema_input_type=str | int), PlainSerializer(str, return_type=str)
]
Months = Annotated[
    Range,
    PlainValidator(lambda value: _ordered(_range(value, _month)), json_schema_input_type=str | int),
    PlainSerializer(str, return_type=str),
]
Years = Annotated[
    Range,
    PlainValidator(lambda value: _ordered(_range(value, _number)), json_schema_input_type=str | int),
    PlainSerializer(str, return_type=str),
]


def _minute(value: str) -> int:
    found = _TIME.fullmatch(value)
    if found is None:
        raise ValueError(f"{shorten(value)!r} is not a time of day; write 00:00 to 24:00")
    return 1440 if found[1] is None else int(found[1]) * 60 + int(found[2])


class TimeRange(Frozen):
    """Within a day; the end does not belong to it."""

    start_time: str
    end_time: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if _minute(self.start_time) >= _minute(self.end_time):
            raise ValueError("`end_time:` must be later than `start_time:`; over midnight, write two ranges")
        return self

    @cached_property
    def minutes(self) -> tuple[int, int]:
        """Its ends, in minutes since midnight: 0 to 1440."""
        return _minute(self.start_time), _minute(self.end_time)

    def contains(self, minute: int) -> bool:
        first, end = self.minutes
        return first <= minute < end


class TimeInterval(Frozen):
    """Each kind of range that is given must contain the instant; none given means always."""

    times: tuple[TimeRange, ...] | None = None
    weekdays: tuple[Weekdays, ...] | None = None
    days_of_month: tuple[Days, ...] | None = None
    months: tuple[Months, ...] | None = None
    years: tuple[Years, ...] | None = None
    location: str = "UTC"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.location == "Local":
            raise ValueError(
                "`location:` Local is a different place on each machine; name one: Europe/Berlin"
            )
        try:
            ZoneInfo(self.location)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"`location:` {shorten(self.location)!r} is not a time zone; write for example Europe/Berlin"
            ) from None
        for name in ("times", "weekdays", "days_of_month", "months", "years"):
            if getattr(self, name) == ():
                raise ValueError(f"`{name}:` is empty, so this interval never occurs; remove the key")
        if not any(self.has_day(day) for day in self._calendar()):
            raise ValueError("this interval never occurs: no date fulfils all of its ranges")
        if not any(self.ends(day) for day in self._calendar(2028) if self.has_day(day)):
            raise ValueError(
                f"this interval never occurs: the clocks of {self.location} leave out all of its times"
            )
        return self

    @property
    def sample_year(self) -> int:
        """A year in which it occurs, where it says which."""
        if self.years is None:
            return 2028  # a leap year
        return min(max(self.years[-1].last, 1970), 9997)

    def _calendar(self, first: int = 2000) -> Iterable[date]:
        """Days among which an interval that can occur at all does: 28 years hold every calendar.

        Args:
            first: the year to begin with, where it does not say which.
        """
        years: Iterable[int] = range(first, first + 28)
        if self.years is not None:
            listed = {
                year for span in self.years for year in range(max(span.first, 1), min(span.last, 9998) + 1)
            }
            years = sorted(listed)[:28]
        for year in years:
            day = date(year, 1, 1)
            while day.year == year:
                yield day
                day += timedelta(days=1)

    def has_day(self, day: date) -> bool:
        """Whether the interval can occur on a date of its location."""
        if self.years is not None and not any(day.year in span for span in self.years):
            return False
        if self.months is not None and not any(day.month in span for span in self.months):
            return False
        if self.weekdays is not None and not any(day.isoweekday() % 7 in span for span in self.weekdays):
            return False
        return self.days_of_month is None or any(_day_of_month(span, day) for span in self.days_of_month)

    def today(self, instant: Instant) -> date:
        """What the calendar of its location says."""
        return (_EPOCH + timedelta(milliseconds=instant)).astimezone(ZoneInfo(self.location)).date()

    def ends(self, day: date) -> list[Instant]:
        """The ends of its times on a date of its location, as far as clocks show any minute of them
        there: not of those that a change to summer time leaves out, nor of a date that a zone skips."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        found: list[Instant] = []
        for first, last in [one.minutes for one in self.times] if self.times is not None else [(0, 1440)]:
            shown = (midnight + timedelta(minutes=minute) for minute in range(first, last))
            if any(_shown(wall, self.location) for wall in shown):
                end = (midnight + timedelta(minutes=last - 1)).replace(tzinfo=ZoneInfo(self.location), fold=1)
                found.append(Instant((end.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1) + MINUTE))
        return found

    def contains(self, instant: Instant) -> bool:
        """Whether the instant, read on the location's wall clock, is within."""
        local = (_EPOCH + timedelta(milliseconds=instant)).astimezone(ZoneInfo(self.location))
        if self.times is not None:
            minute = local.hour * 60 + local.minute
            if not any(span.contains(minute) for span in self.times):
                return False
        return self.has_day(local.date())


def _shown(wall: datetime, location: str) -> bool:
    """Whether clocks of the location ever show this: one that they leave out comes back as another."""
    zone = ZoneInfo(location)
    there = wall.replace(tzinfo=zone)
    return there.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None)


def _day_of_month(span: Range, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    first, last = (number + length + 1 if number < 0 else number for number in (span.first, span.last))
    return first <= day.day <= last


def _ahead(value: Millis) -> Millis:
    if value > AHEAD:
        raise ValueError(f"{span(value)} is too long before; at most {span(AHEAD)}")
    return value


def _updates(value: Millis) -> Millis:
    if value < 5 * MINUTE:
        raise ValueError(f"{span(value)} is too often; at least {span(5 * MINUTE)}")
    return value


Ahead = Annotated[Positive, AfterValidator(_ahead)]
Updates = Annotated[Positive, AfterValidator(_updates)]


class Window(Frozen):
    """A named span of time and what it does to runs.

    effect wait: no action starts within; observe: policies only plan; none: only a name, for `only_during`.
    """

    name: str = Field(min_length=1, max_length=100)
    time_intervals: tuple[TimeInterval, ...] = Field(min_length=1, max_length=100)
    targets: tuple[str, ...] = Field(default=(), description="Globs over target names; left out means all.")
    effect: Literal["wait", "observe"] | None = Field(
        default=None,
        description="wait: no action starts within it. observe: policies only plan. Left out: only a name.",
    )
    notify: tuple[str, ...] = Field(
        default=(), max_length=20, description="Notifiers of the settings that are told of it."
    )
    announce: tuple[Ahead, ...] = Field(
        default=(Millis(14 * DAY), Millis(2 * DAY)),
        max_length=10,
        json_schema_extra={"default": ["14d", "48h"]},
        description="How long before it begins they are told; of its begin and its end always.",
    )
    updates: Updates | None = Field(
        default=Millis(HOUR),
        json_schema_extra={"default": "1h"},
        description="How often they are told how it stands while it is open.",
    )

    @cached_property
    def spans(self) -> Spans:
        """When it is open, and when it next opens or closes."""
        return Spans(self.time_intervals)

    def covers(self, names: Collection[str]) -> bool:
        """Whether it concerns the target that has these names."""
        return not self.targets or any(
            glob.matches(pattern, name) for pattern in self.targets for name in names
        )


class WindowsFile(Frozen):
    """windows.yaml as it is written."""

    windows: tuple[Window, ...] = ()


def active(window: Window, instant: Instant) -> bool:
    """Whether the instant is within any of the window's intervals."""
    return any(interval.contains(instant) for interval in window.time_intervals)
