"""When windows open and close, over changes of the clock: against the windows themselves, asked minute by
minute."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.model import DAY, HOUR, MINUTE, Instant
from remediator.policy.span import LOOK, Span, next_change
from remediator.policy.window import Window, active

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


def window(*intervals: dict[str, object]) -> Window:
    return Window.model_validate({"name": "w", "time_intervals": list(intervals)})


def at(text: str) -> Instant:
    return Instant(round(datetime.fromisoformat(text).timestamp() * 1000))


def span(found: Window, text: str) -> tuple[bool, str | None, str | None]:
    said = found.spans.at(at(text))
    return said.open, _text(said.since), _text(said.until)


def _text(instant: Instant | None) -> str | None:
    return None if instant is None else datetime.fromtimestamp(instant / 1000, UTC).strftime("%d %H:%M")


def test_before_within_and_after() -> None:
    found = window({"weekdays": ["sunday"], "times": [{"start_time": "02:00", "end_time": "04:00"}]})
    assert span(found, "2026-11-21T12:00Z") == (False, "15 04:00", "22 02:00")
    assert span(found, "2026-11-22T01:59:59.999Z") == (False, "15 04:00", "22 02:00")
    assert span(found, "2026-11-22T02:00Z") == (True, "22 02:00", "22 04:00")
    assert span(found, "2026-11-22T04:00Z") == (False, "22 04:00", "29 02:00")


def test_intervals_that_touch_are_one() -> None:
    late = {"weekdays": ["friday"], "times": [{"start_time": "22:00", "end_time": "24:00"}]}
    early = {"weekdays": ["saturday"], "times": [{"start_time": "00:00", "end_time": "06:00"}]}
    assert span(window(late, early), "2026-11-20T23:00Z") == (True, "20 22:00", "21 06:00")


@pytest.mark.parametrize(
    ("times", "day", "inside"),
    [
        # 29 March 2026: 02:00 becomes 03:00 in Berlin, at 01:00 UTC. 25 October: 03:00 becomes 02:00.
        (("02:30", "04:00"), "2026-03-29", ("29 01:00", "29 02:00")),
        (("01:00", "02:30"), "2026-03-29", ("29 00:00", "29 01:00")),
        (("02:15", "02:45"), "2026-03-29", None),
        (("01:00", "05:00"), "2026-03-29", ("29 00:00", "29 03:00")),
        (("01:00", "05:00"), "2026-10-25", ("24 23:00", "25 04:00")),
        (("02:00", "03:00"), "2026-10-25", ("25 00:00", "25 02:00")),
    ],
)
def test_the_wall_clock_jumps(times: tuple[str, str], day: str, inside: tuple[str, str] | None) -> None:
    begin, end = times
    rule = {"times": [{"start_time": begin, "end_time": end}], "location": "Europe/Berlin"}
    found = window(rule)
    here = found.spans.at(Instant(at(f"{day}T00:00Z") - 2 * HOUR))
    assert not here.open
    assert here.until is not None
    there = found.spans.at(here.until)
    if inside is None:  # this night the window does not occur
        assert (_text(here.until) or "").startswith("30 ")
    else:
        assert (_text(there.since), _text(there.until)) == inside


def test_a_time_that_comes_twice_is_open_twice() -> None:
    """25 October 2026 in Berlin: 02:15 to 02:45 by summer time, then again by winter time."""
    found = window({"times": [{"start_time": "02:15", "end_time": "02:45"}], "location": "Europe/Berlin"})
    assert span(found, "2026-10-25T00:20Z") == (True, "25 00:15", "25 00:45")
    assert span(found, "2026-10-25T01:20Z") == (True, "25 01:15", "25 01:45")


def test_always_open_and_far_away() -> None:
    assert window({}).spans.at(at("2026-11-21T12:00Z")) == Span(True, None, None)
    leap = window({"days_of_month": ["29"], "months": ["february"]})
    assert leap.spans.at(at("2026-11-21T12:00Z")) == Span(False, None, None)
    assert _text(leap.spans.at(at("2028-01-25T12:00Z")).until) == "29 00:00"


def test_what_was_far_away_is_found_once_it_is_near() -> None:
    """The memory of the last answer must not hide an edge that was beyond its horizon."""
    found = window({"days_of_month": ["29"], "months": ["february"]})
    seen = []
    for day in range(60, -1, -1):
        now = Instant(at("2028-02-29T00:00Z") - day * DAY)
        seen.append(found.spans.at(now).until is not None or found.spans.at(now).open)
    assert seen == [day <= LOOK for day in range(60, -1, -1)]


def test_the_next_change_of_several_windows() -> None:
    noon = window({"times": [{"start_time": "12:00", "end_time": "13:00"}]})
    night = window({"times": [{"start_time": "00:00", "end_time": "06:00"}]})
    assert _text(next_change([noon, night], at("2026-11-21T05:00Z"))) == "21 06:00"
    assert _text(next_change([noon, night], at("2026-11-21T06:00Z"))) == "21 12:00"
    assert next_change([], at("2026-11-21T06:00Z")) is None


TIMES = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda pair: pair[0] < pair[1])
INTERVALS = st.fixed_dictionaries(
    {"location": st.sampled_from(ZONES)},
    optional={
        "times": st.lists(
            TIMES.map(lambda pair: {"start_time": _clock(pair[0]), "end_time": _clock(pair[1])}),
            min_size=1,
            max_size=3,
        ),
        "weekdays": st.sampled_from([["monday:friday"], ["sunday"], ["saturday", "tuesday"]]),
        "days_of_month": st.sampled_from([["8:14"], ["-1"], ["25:31"]]),
    },
)
NEAR_JUMPS = st.sampled_from(["2026-03-29", "2026-10-25", "2026-04-05", "2026-03-08", "2011-12-30"])


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@settings(max_examples=150, deadline=None)
@given(st.lists(INTERVALS, min_size=1, max_size=3), NEAR_JUMPS, st.integers(-48 * 60, 48 * 60))
def test_a_span_is_what_the_window_says_minute_by_minute(
    intervals: list[dict[str, object]], day: str, minutes: int
) -> None:
    found = window(*intervals)
    now = Instant(at(f"{day}T00:00Z") + minutes * MINUTE + 31_415)
    said = found.spans.at(now)
    begin = said.since if said.since is not None else now - LOOK * DAY
    end = said.until if said.until is not None else now + LOOK * DAY
    assert begin <= now < end
    edge = [instant for instant in (said.since, said.until) if instant is not None]
    for instant in edge:
        assert active(found, Instant(instant)) is not active(found, Instant(instant - 1))
    for instant in range(max(begin, now - DAY), min(end, now + DAY), MINUTE):
        assert active(found, Instant(instant)) is said.open


def test_a_thousand_windows_are_quick_to_ask() -> None:
    """A run asks all of them each time; what was found is remembered until an edge has passed."""
    many = [
        window({"weekdays": ["sunday"], "times": [{"start_time": _clock(i), "end_time": "24:00"}]})
        for i in range(1000)
    ]
    now = at("2026-11-21T12:00Z")
    for one in many:
        one.spans.at(now)
    begin = time.perf_counter()
    for step in range(10):
        for one in many:
            one.spans.at(Instant(now + step * MINUTE))
    assert (time.perf_counter() - begin) / 10 < 0.05  # some 0.3 ms; a machine may be busy


def test_a_span_of_the_past_can_be_asked_for_too() -> None:
    """A clock may be set back: what is remembered does not answer for another time."""
    found = window({"times": [{"start_time": "02:00", "end_time": "04:00"}]})
    assert span(found, "2026-11-22T03:00Z")[0]
    assert not span(found, "2026-11-22T01:00Z")[0]
    assert span(found, "2026-11-21T03:00Z") == (True, "21 02:00", "21 04:00")
    assert found.spans.at(
        Instant(at("2026-11-21T03:00Z") + timedelta(days=1) // timedelta(milliseconds=1))
    ).open
