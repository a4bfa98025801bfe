"""Flood limits: what is counted, for how long, and what other replicas add."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clock import DrivenClock
from remediator.live.exchange import heard, sort
from remediator.live.flood import Flood, Window
from remediator.live.hub import Kind
from remediator.live.report import FloodReport
from remediator.model import MINUTE, SECOND, Budget, Instant, Millis
from remediator.store import open_store

START = Instant(1_800_000_000_000)
LIMIT = Budget(count=5, window=Millis(10 * SECOND))


def at(seconds: float) -> Instant:
    return Instant(START + round(seconds * 1000))


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=120))
def test_never_more_than_the_limit_in_any_window(gaps: list[int]) -> None:
    window = Window(LIMIT)
    now, taken = START, []
    for gap in gaps:
        now = Instant(now + gap)
        if window.take(now) == 0:
            taken.append(now)
    for first in taken:
        assert sum(first <= one < first + LIMIT.window for one in taken) <= LIMIT.count


def test_room_comes_back_when_it_was_said_to() -> None:
    window = Window(LIMIT)
    assert [window.take(at(0)) for _ in range(5)] == [0] * 5
    wait = window.take(at(3))
    assert 7 * SECOND <= wait <= 8 * SECOND
    assert window.take(Instant(at(3) + wait - 1)) > 0
    assert window.take(Instant(at(3) + wait)) == 0


def test_what_is_refused_does_not_count() -> None:
    window = Window(LIMIT)
    for second in range(60):  # somebody who never stops gets his share all the same
        for _ in range(100):
            window.take(at(second))
    assert 5 * 5 <= 6000 - window.refused <= 5 * 6


def test_what_others_took_counts_until_it_leaves_the_window() -> None:
    window = Window(LIMIT)
    slot = at(0) // window.span
    window.learn({slot: 4}, at(0))
    assert window.take(at(1)) == 0
    assert window.take(at(1)) > 0
    assert window.take(at(12)) == 0  # and nobody said anything since


def test_a_sender_without_a_limit_has_none() -> None:
    flood = Flood({"am": LIMIT}, DrivenClock(START))
    assert {flood.refuse("other") for _ in range(100)} == {0}
    assert sum(flood.refuse("am") > 0 for _ in range(100)) == 95


def test_a_hash_of_counts_is_read_with_care() -> None:
    window = Window(LIMIT)
    found = {
        b"100:me": b"7",
        b"100:other": b"2",
        b"100:third": b"3",
        b"101:other": b"1",
        b"50:other": b"9",
        b"999:other": b"9",
        b"nonsense": b"1",
        b"100:x": b"-5",
        b"100:y": b"99999999999999999999",
    }
    others, old = sort(found, window, "me", 100)
    assert others == {100: 5, 101: 1}
    assert sorted(old) == [b"100:x", b"100:y", b"50:other", b"nonsense"]


@pytest.mark.parametrize(
    ("body", "hints"),
    [
        (b'{"by":"other","hints":[["run",7]]}', [(Kind.RUN, 7)]),
        (b'{"by":"other","hints":[["control","pause:"]]}', [(Kind.CONTROL, "pause:")]),
        (b'{"by":"me","hints":[["run",7]]}', []),
        (b'{"by":"other","hints":[["secret",7]]}', []),
        (b'{"by":"other","hints":[[7,"run"]]}', []),
        (b"not json", []),
        (b"", []),
    ],
)
def test_what_is_published_is_read_with_care(body: bytes, hints: list[object]) -> None:
    assert heard(body, "me") == hints


async def test_refusals_are_audited_in_few_rows() -> None:
    clock = DrivenClock(START)
    flood = Flood({"am": LIMIT}, clock)
    store = open_store("sqlite://", clock, receivers={})
    await store.open()
    report = FloodReport(store, flood)
    await report()
    assert await store.audit(kind="sender.flooded") == []
    for second in range(180):
        clock.set(at(second))
        for _ in range(50):
            flood.refuse("am")
        await report()
    clock.set(Instant(at(180) + MINUTE))
    await report()
    said = await store.audit(kind="sender.flooded", oldest_first=True)
    assert len(said) == 4  # at once, then one a minute
    assert said[0].event.actor == "sender:am"
    assert said[0].event.allowed == "5 per 10s (senders.am.limit)"
    taken = 180 * 50 - sum(one.event.data["refused"] for one in said)
    assert 5 * 16 <= taken <= 5 * 18
    await store.close()
