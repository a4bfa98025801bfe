"""Windows: Alertmanager's own cases (timeinterval/timeinterval_test.go) and ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.model import Instant
from remediator.policy.bygone import over
from remediator.policy.window import Window, active


def window(**interval: object) -> Window:
    return Window.model_validate({"name": "w", "time_intervals": [interval]})


def at(text: str) -> Instant:
    """`04 May 20 15:04 +0000`, as Alertmanager's tests write it."""
    return Instant(round(datetime.strptime(text, "%d %b %y %H:%M %z").timestamp() * 1000))


NINE_TO_FIVE = [{"start_time": "09:00", "end_time": "17:00"}]


@pytest.mark.parametrize(
    ("interval", "within", "outside"),
    [
        ({}, ["02 Jan 06 15:04 +0000", "03 Jan 07 10:04 +0000"], []),
        (
            {"times": NINE_TO_FIVE, "weekdays": ["monday:friday"]},
            [
                "04 May 20 15:04 +0000",
                "05 May 20 10:04 +0000",
                "09 Jun 20 09:04 +0000",
                "08 Jul 20 16:59 +0000",
            ],
            [
                "03 May 20 15:04 +0000",
                "04 May 20 08:59 +0000",
                "05 May 20 05:00 +0000",
                "08 Jul 20 17:00 +0000",
            ],
        ),
        (
            {"days_of_month": ["4:6"], "months": ["april"], "years": ["2020"]},
            ["04 Apr 20 15:04 +0000", "05 Apr 20 00:00 +0000", "06 Apr 20 23:05 +0000"],
            [
                "03 May 18 15:04 +0000",
                "03 Apr 20 23:59 +0000",
                "04 Jun 20 23:59 +0000",
                "06 Apr 19 23:59 +0000",
            ],
        ),
        (
            {"days_of_month": ["-3:-1"]},
            [
                "31 Jan 20 15:04 +0000",
                "29 Jan 20 15:04 +0000",
                "30 Jun 20 00:00 +0000",
                "29 Feb 20 23:05 +0000",
            ],
            ["27 Jan 20 15:04 +0000", "03 Apr 20 23:59 +0000", "01 Mar 20 00:00 +0000"],
        ),
        (
            {"times": NINE_TO_FIVE, "weekdays": ["monday:friday"], "location": "Australia/Sydney"},
            ["06 Apr 21 13:00 +1000"],
            ["06 Apr 21 13:00 +0000"],
        ),
        (
            {
                "times": NINE_TO_FIVE,
                "weekdays": ["monday:friday"],
                "months": ["11"],
                "location": "Australia/Sydney",
            },
            ["01 Nov 21 09:00 +1100", "31 Oct 21 22:00 +0000"],
            ["31 Oct 21 21:00 +0000"],
        ),
        (
            {
                "weekdays": ["monday:friday", "sunday"],
                "months": ["january:march"],
                "days_of_month": ["-7:-1"],
                "years": ["2020:2025", "2030:2035"],
                "times": NINE_TO_FIVE,
            },
            [
                "27 Jan 21 09:00 +0000",
                "28 Jan 21 16:59 +0000",
                "31 Mar 25 13:00 +0000",
                "31 Jan 35 13:00 +0000",
            ],
            [
                "30 Jan 21 13:00 +0000",
                "01 Apr 21 13:00 +0000",
                "30 Jan 26 13:00 +0000",
                "31 Jan 35 17:01 +0000",
            ],
        ),
        (
            {
                "weekdays": ["monday:wednesday", "saturday", "sunday"],
                "times": [{"start_time": "13:00", "end_time": "15:00"}],
                "days_of_month": [1, 10, "20:-1"],
                "years": ["2020:2023"],
                "months": ["January:MARCH"],
            },
            ["10 Jan 21 13:00 +0000", "30 Jan 21 14:24 +0000"],
            ["09 Jan 21 13:00 +0000", "20 Jan 21 12:59 +0000", "02 Feb 21 13:00 +0000"],
        ),
        # the second Sunday of a month
        (
            {"weekdays": ["sunday"], "days_of_month": ["8:14"]},
            ["11 Jan 26 02:00 +0000"],
            ["04 Jan 26 02:00 +0000"],
        ),
        # 02:30 does not exist in Berlin on this night: the wall clock jumps over it
        (
            {"times": [{"start_time": "02:00", "end_time": "03:00"}], "location": "Europe/Berlin"},
            ["28 Mar 26 01:30 +0000"],
            ["29 Mar 26 00:59 +0000", "29 Mar 26 01:00 +0000"],
        ),
        # and exists twice on this one
        (
            {"times": [{"start_time": "02:00", "end_time": "03:00"}], "location": "Europe/Berlin"},
            ["25 Oct 26 00:30 +0000", "25 Oct 26 01:30 +0000"],
            ["25 Oct 26 02:00 +0000"],
        ),
        (
            {"times": [{"start_time": "23:00", "end_time": "24:00"}]},
            ["01 Jan 26 23:59 +0000"],
            ["02 Jan 26 00:00 +0000"],
        ),
    ],
)
def test_active(interval: dict[str, object], within: list[str], outside: list[str]) -> None:
    found = window(**interval)
    assert [text for text in within if not active(found, at(text))] == []
    assert [text for text in outside if active(found, at(text))] == []


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ({"times": [{"start_time": "01:99", "end_time": "23:59"}]}, "'01:99' is not a time of day"),
        ({"times": [{"start_time": "00:00", "end_time": "24:01"}]}, "'24:01' is not a time of day"),
        ({"times": [{"start_time": "9:00", "end_time": "10:00"}]}, "'9:00' is not a time of day"),
        ({"times": [{"start_time": "17:31", "end_time": "17:31"}]}, "must be later"),
        ({"times": [{"start_time": "22:00", "end_time": "02:00"}]}, "over midnight, write two ranges"),
        ({"times": [{"start_time": "14:03"}]}, "Field required"),
        ({"weekdays": ["friday:monday"]}, "ends before it starts"),
        ({"weekdays": ["mondy"]}, "did you mean 'monday'"),
        ({"weekdays": ["1:3"]}, "not a weekday"),
        ({"days_of_month": ["0"]}, "0 is not a day of the month"),
        ({"days_of_month": ["-50:-20"]}, "-50 is not a day"),
        ({"days_of_month": ["1:50"]}, "50 is not a day"),
        ({"days_of_month": ["-15:5"]}, "must also end there"),
        ({"days_of_month": ["10:-25"]}, "always ends before it starts"),
        ({"months": ["martius:june"]}, "not a number here|not a month"),
        ({"months": ["0"]}, "not a month"),
        ({"months": ["december:january"]}, "ends before it starts"),
        ({"years": ["2022:2020"]}, "ends before it starts"),
        ({"location": "Mars/Olympus"}, "not a time zone"),
        ({"location": "../../etc/passwd"}, "not a time zone"),
        ({"location": "Local"}, "a different place on each machine"),
        ({"weekdays": []}, "never occurs"),
        ({"days_of_month": ["30:31"], "months": ["february"]}, "never occurs"),
        (  # the hour that is left out when summer time begins
            {
                "times": [{"start_time": "02:00", "end_time": "03:00"}],
                "days_of_month": ["-7:-1"],
                "weekdays": ["sunday"],
                "months": ["march"],
                "location": "Europe/Berlin",
            },
            "never occurs: the clocks of Europe/Berlin leave out all of its times",
        ),
        (  # a date that was left out when Samoa changed sides
            {
                "days_of_month": ["30"],
                "months": ["december"],
                "years": ["2011"],
                "location": "Pacific/Apia",
            },
            "never occurs: the clocks of Pacific/Apia",
        ),
        ({"days_of_month": ["29"], "months": ["february"], "years": ["2021:2023"]}, "never occurs"),
        ({"weekday": ["monday"]}, "Extra inputs"),
    ],
)
def test_refuses(interval: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        window(**interval)


def test_half_of_a_window_that_clocks_leave_out_occurs() -> None:
    found = window(
        times=[{"start_time": "02:30", "end_time": "03:30"}],
        days_of_month=["-7:-1"],
        weekdays=["sunday"],
        months=["march"],
        location="Europe/Berlin",
    )
    assert active(found, at("28 Mar 27 03:29 +0200"))
    assert not active(found, at("28 Mar 27 01:59 +0100"))


@pytest.mark.parametrize(
    ("interval", "now", "gone"),
    [
        ({}, "01 Jan 27 00:00 +0000", False),
        ({"months": ["january"]}, "01 Jun 27 00:00 +0000", False),
        ({"years": ["2026"]}, "31 Dec 26 23:59 +0000", False),
        ({"years": ["2026"]}, "01 Jan 27 00:00 +0000", True),
        ({"years": ["2026"], "location": "America/New_York"}, "01 Jan 27 04:59 +0000", False),
        ({"years": ["2026"], "location": "America/New_York"}, "01 Jan 27 05:00 +0000", True),
        ({"years": ["2020:2027"], "months": ["february"]}, "01 Mar 27 00:00 +0000", True),
        ({"years": ["2020", "2030"], "months": ["february"]}, "01 Mar 27 00:00 +0000", False),
        ({"years": ["2027"], "days_of_month": ["4"], "months": ["may"], "times": NINE_TO_FIVE},
         "04 May 27 16:59 +0000", False),
        ({"years": ["2027"], "days_of_month": ["4"], "months": ["may"], "times": NINE_TO_FIVE},
         "04 May 27 17:00 +0000", True),
        ({"years": ["2020:2045"], "days_of_month": ["29"], "months": ["february"]},
         "01 Mar 44 00:00 +0000", True),
    ],
)  # fmt: skip
def test_over(interval: dict[str, object], now: str, gone: bool) -> None:
    assert over(window(**interval), at(now)) is gone


def test_a_window_with_one_interval_to_come_is_not_over() -> None:
    both = Window.model_validate({"name": "w", "time_intervals": [{"years": ["2020"]}, {"years": ["2030"]}]})
    assert not over(both, at("01 Mar 27 00:00 +0000"))


def test_the_29th_of_february_does_occur() -> None:
    found = window(days_of_month=["29"], months=["2"], weekdays=["sunday"])
    assert active(found, at("29 Feb 32 12:00 +0000"))


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), st.integers(-31, -1))
def test_a_negative_day_counts_from_the_end(moment: datetime, back: int) -> None:
    moment = moment.replace(tzinfo=UTC)
    last = (moment.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    found = window(days_of_month=[back])
    assert active(found, Instant(int(moment.timestamp() * 1000))) is (moment.day - last.day - 1 == back)


def test_targets_are_globs_and_none_means_all() -> None:
    some = Window.model_validate({"name": "w", "time_intervals": [{}], "targets": ["postgres:*", "pool:gp?"]})
    names = ("postgres:orders", "pool:gpu", "pool:gpus", "xpostgres:a")
    assert [some.covers((name,)) for name in names] == [True, True, False, False]
    assert some.covers(("pool:other-name", "pool:gpu"))
    assert not some.covers(())
    assert window().covers(("anything",))
    assert window().covers(())
