"""Windows are told of ahead, when they begin, while they are open and when they are over, each once."""

from __future__ import annotations

import pytest

from remediator.engine.announcing import Announcing
from remediator.model import DAY, HOUR, MINUTE, AuditEvent, Instant, Message
from tests.engine.world import POLICY, START, Rig

# START is Friday, 15 January 2027, 08:00 UTC. The second Sunday of February is the 14th.
PATCHING = """\
windows:
  - name: patching
    time_intervals:
      - {weekdays: [sunday], days_of_month: ["8:14"], times: [{start_time: "02:00", end_time: "04:30"}]}
    effect: wait
    notify: [primary, log]
"""
FEBRUARY = Instant(START + 29 * DAY + 18 * HOUR)


def rig(text: str = PATCHING) -> Rig:
    made = Rig(POLICY + "give_up: 5h\n")
    made.files["windows.yaml"] = text
    return made


async def heard(r: Rig) -> list[Message]:
    """What waits in the outbox, taken out."""
    due = await r.store.due_messages(100)
    for one in due:
        await r.store.message_sent(one.id, AuditEvent(kind="message.sent"))
    return [one.message for one in due]


async def at(r: Rig, instant: int, announcing: Announcing) -> list[str]:
    r.clock.set(Instant(instant))
    await announcing()
    return [one.subject.removeprefix("[P4] window patching ") for one in await heard(r)]


async def test_two_weeks_two_days_begin_updates_and_end() -> None:
    async with rig() as r:
        say = Announcing(r.store, r.policies)
        until = "until 2027-02-14T04:30:00.000Z"
        assert await at(r, FEBRUARY - 14 * DAY - 1, say) == []
        assert await at(r, FEBRUARY - 14 * DAY, say) == [
            f"begins in 14d, at 2027-02-14T02:00:00.000Z, {until}"
        ]
        assert await at(r, FEBRUARY - 5 * DAY, say) == []
        assert await at(r, FEBRUARY - 2 * DAY + MINUTE, say) == [
            f"begins in 2d, at 2027-02-14T02:00:00.000Z, {until}"
        ]
        assert await at(r, FEBRUARY - 1, say) == []
        assert await at(r, FEBRUARY, say) == [f"has begun, {until}"]
        assert await at(r, FEBRUARY + 59 * MINUTE, say) == []
        assert await at(r, FEBRUARY + HOUR, say) == [f"is still open, {until}"]
        assert await at(r, FEBRUARY + HOUR + MINUTE, say) == []
        assert await at(r, FEBRUARY + 2 * HOUR, say) == [f"is still open, {until}"]
        assert await at(r, FEBRUARY + 150 * MINUTE, say) == ["is over"]
        assert await at(r, FEBRUARY + 3 * HOUR, say) == []
        kinds = [one.event.data["what"] for one in await r.events() if one.event.kind == "window.announced"]
        assert kinds == ["ahead", "ahead", "begin", "update", "update", "end"]


async def test_neither_a_restart_nor_another_replica_says_it_again() -> None:
    async with rig() as r:
        r.clock.set(Instant(FEBRUARY - 14 * DAY))
        for _ in range(3):
            await Announcing(r.store, r.policies)()
        assert len(await heard(r)) == 1
        r.clock.set(FEBRUARY)
        for _ in range(3):
            await Announcing(r.store, r.policies)()
        assert [one.chain for one in await heard(r)] == ["primary"]


async def test_who_comes_late_says_the_nearest_only_and_no_end_of_what_nobody_heard_of() -> None:
    async with rig() as r:
        say = Announcing(r.store, r.policies)
        assert await at(r, FEBRUARY - 10 * HOUR, say) == [
            "begins in 10h, at 2027-02-14T02:00:00.000Z, until 2027-02-14T04:30:00.000Z"
        ]
        assert await at(r, FEBRUARY + 160 * MINUTE, say) == []
        late = Announcing(r.store, r.policies)
        assert await at(r, FEBRUARY + 28 * DAY + HOUR + MINUTE, late) == [
            "has begun, until 2027-03-14T04:30:00.000Z"
        ]
        assert await at(r, FEBRUARY + 28 * DAY + HOUR + 2 * MINUTE, late) == []


async def test_a_window_that_was_moved_is_announced_anew() -> None:
    async with rig() as r:
        say = Announcing(r.store, r.policies)
        assert len(await at(r, FEBRUARY - 10 * DAY, say)) == 1
        await r.load({**r.files, "windows.yaml": PATCHING.replace("02:00", "03:00")})
        assert await at(r, FEBRUARY - 10 * DAY, say) == [
            "begins in 10d1h, at 2027-02-14T03:00:00.000Z, until 2027-02-14T04:30:00.000Z"
        ]


async def test_a_status_update_says_who_waits() -> None:
    async with rig(PATCHING.replace("notify: [primary, log]", "notify: [log]")) as r:
        say = Announcing(r.store, r.policies)
        r.clock.set(FEBRUARY)
        await say()
        (begun,) = await heard(r)
        assert (begun.chain, "Runs that wait for its end: 0" in begun.body) == ("", True)
        await r.fire(since=FEBRUARY)
        await r.worker.drain()
        r.clock.set(Instant(FEBRUARY + HOUR))
        await say()
        (update,) = await heard(r)
        assert "Runs that wait for its end: 1\n  run 1, queue on world:gpu" in update.body


@pytest.mark.parametrize(
    "text",
    [
        PATCHING.replace("    notify: [primary, log]\n", ""),
        "windows: [{name: patching, time_intervals: [{}], effect: wait, notify: [primary]}]\n",
    ],
)
async def test_nobody_is_told_of_a_window_without_notify_or_without_an_edge(text: str) -> None:
    async with rig(text) as r:
        say = Announcing(r.store, r.policies)
        for day in range(45):
            assert await at(r, START + day * DAY, say) == []


async def test_announcements_can_be_left_out() -> None:
    text = PATCHING + "    announce: []\n    updates: null\n"
    async with rig(text) as r:
        say = Announcing(r.store, r.policies)
        said = [await at(r, FEBRUARY + hours * HOUR, say) for hours in range(-400, 6)]
        assert [one for one in said if one] == [["has begun, until 2027-02-14T04:30:00.000Z"], ["is over"]]
