"""Brakes, outbox, policy sets, rejected bodies, health."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from remediator.contracts import Bad, NewEffect, Revision
from remediator.errors import LeaseLost, NotFound
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    IncidentId,
    Instant,
    Message,
    Millis,
    Origin,
    Progress,
    Severity,
    State,
    Status,
)
from tests.store.world import START, World, alert, plan


def pause(scope: str = "", reason: str = "drill", until: int | None = None) -> Control:
    return Control(
        kind=ControlKind.PAUSE,
        scope=scope,
        reason=reason,
        actor="alice",
        since=START,
        until=None if until is None else Instant(until),
        data={"ticket": 7},
    )


PAUSED = AuditEvent(kind="control.paused", actor="alice")
RESUMED = AuditEvent(kind="control.resumed", actor="alice")


async def test_a_brake_is_set_replaced_and_lifted(world: World) -> None:
    await world.store.set_control(pause(), PAUSED)
    standing = await world.store.set_control(pause(reason="longer drill"), PAUSED)
    assert await world.store.controls() == [standing]
    before = {"reason": "drill", "actor": "alice", "since": START, "until": None}
    assert (standing.reason, standing.data) == ("longer drill", {**pause().data, "before": before})
    assert await world.store.clear_control(ControlKind.PAUSE, "", RESUMED)
    assert await world.store.controls() == []
    assert not await world.store.clear_control(ControlKind.PAUSE, "", RESUMED)
    assert await world.kinds() == ["control.paused", "control.paused", "control.resumed"]


async def test_a_pause_takes_nothing_from_one_that_lasts_longer(world: World) -> None:
    short, long = Instant(START + HOUR), Instant(START + 4 * HOUR)

    async def paused(reason: str, until: Instant | None, actor: str = "alice") -> str:
        wanted = msgspec.structs.replace(pause(reason=reason), until=until, actor=actor)
        standing = await world.store.set_control(wanted, PAUSED)
        assert await world.store.controls() == [standing]
        return standing.reason

    assert await paused("first", long) == "first"
    assert await paused("shorter", short, "bob") == "first"
    assert await paused("the clock jumped", None, "daemon") == "the clock jumped"
    assert await paused("lunch", short) == "the clock jumped"
    events = [one.event.data for one in await world.store.audit(oldest_first=True)]
    stays = {"reason": "first", "actor": "alice", "until": long}
    assert [data.get("stays") for data in events[:2]] == [None, stays]
    assert events[2]["replaced"]["reason"] == "first"
    assert events[3]["stays"]["reason"] == "the clock jumped"
    world.later(5 * HOUR)
    assert await world.store.clear_control(ControlKind.PAUSE, "", RESUMED)
    assert await paused("ends", Instant(world.now + HOUR)) == "ends"
    world.later(2 * HOUR)
    assert await paused("after one that is over", Instant(world.now + 1)) == "after one that is over"


async def test_people_are_told_with_what_they_are_told_of(world: World) -> None:
    call = Message(chain="on-call", severity=Severity.P2, subject="paused", body="the clock jumped")
    await world.store.set_control(pause(), PAUSED, (call,))
    await world.store.record((RESUMED,), (call, call))
    assert [one.message for one in await world.store.due_messages(10)] == [call] * 3
    assert await world.kinds() == ["control.paused", "control.resumed"]


async def test_a_probe_leaves_nothing_behind(world: World) -> None:
    for size in (0, 65_536, 0):
        await world.store.probe(size)
    assert world.store.unwritable is None
    assert await world.kinds() == []


async def test_timers_go_with_a_clock_that_jumps(world: World) -> None:
    """What was due in a minute is due in a minute, on both sides of the jump."""
    await world.activate()
    acting = await world.admitted(await world.start("a"))
    lease = NewEffect(
        field="size", prior=1, current=2, plan=plan("k:db:a", "db:a"), expires_at=Instant(world.now + MINUTE)
    )
    await world.move(acting, State.SETTLING, next_at=Instant(world.now + MINUTE), effects=(lease,))
    call = Message(chain="daemon", severity=Severity.P1, subject="paused", body="the clock jumped")
    for hours in (-2, 5):
        by = Millis(hours * HOUR)
        await world.store.jumped(by, pause(), PAUSED, (call,))
        world.later(by)
        assert await world.store.next_due() == world.now + MINUTE
        [effect] = await world.store.effects()
        assert effect.expires_at == world.now + MINUTE
        due = await world.store.due_messages(10)
        assert call in [one.message for one in due]
    assert len(await world.store.controls()) == 1
    assert await world.store.claim("w", 10) == []
    world.later(MINUTE)
    assert {run.origin for run in await world.store.claim("w", 10)} == {Origin.ALERT, Origin.LEASE}


async def test_who_looked_before_the_clock_jumped_writes_nothing(world: World) -> None:
    """What it reckoned is reckoned by the old time. A call that is under way keeps its run."""
    await world.activate()
    looking = await world.start("a")
    acting = await world.admitted(await world.start("b"))
    await world.store.jumped(Millis(HOUR), pause(), PAUSED)
    world.later(HOUR)
    with pytest.raises(LeaseLost):
        await world.move(looking, State.GUARD)
    await world.move(acting, State.SETTLING, next_at=Instant(world.now + MINUTE))
    assert [run.id for run in await world.store.claim("w", 10)] == [looking.id]


async def test_a_run_keeps_its_patience_when_the_clock_jumps(world: World) -> None:
    await world.activate()
    waited = Progress(waiting_since=Instant(START), verify_from=Instant(START + 1), number=3)
    run = await world.move(await world.start("a"), next_at=Instant(START + MINUTE), progress=waited)
    over = await world.end(await world.start("b"))
    await world.store.jumped(Millis(-HOUR), pause(), PAUSED)
    found = (await world.store.run(run.id)).progress
    assert found == Progress(
        waiting_since=Instant(START - HOUR), verify_from=Instant(START + 1 - HOUR), number=3
    )
    assert await world.store.run(over.id) == over


async def test_a_brake_ends_by_itself(world: World) -> None:
    await world.store.set_control(pause(until=START + MINUTE), PAUSED)
    world.later(MINUTE - 1)
    assert len(await world.store.controls()) == 1
    world.later(1)
    assert await world.store.controls() == []
    assert not await world.store.clear_control(ControlKind.PAUSE, "", RESUMED)
    assert await world.kinds() == ["control.paused"]


async def test_brakes_outlive_a_restart(world: World) -> None:
    await world.store.set_control(pause("policy:p"), PAUSED)
    await world.reopen()
    assert await world.store.controls() == [pause("policy:p")]


async def post(world: World, *subjects: str) -> None:
    run = await world.start("-".join(subjects))
    messages = tuple(
        Message(chain="on-call", severity=Severity.P2, subject=subject, body="b") for subject in subjects
    )
    await world.move(run, messages=messages)


async def test_a_message_is_due_until_it_is_sent(world: World) -> None:
    await post(world, "one", "two")
    first, second = await world.store.due_messages(10)
    assert (first.message.subject, first.at, first.attempts) == ("one", START, 0)
    assert [one.id for one in await world.store.due_messages(1)] == [first.id]
    await world.store.message_sent(first.id, AuditEvent(kind="message.sent"))
    assert [one.id for one in await world.store.due_messages(10)] == [second.id]
    assert "message.sent" in await world.kinds()
    with pytest.raises(NotFound):
        await world.store.message_sent(first.id, AuditEvent(kind="message.sent"))
    with pytest.raises(NotFound):
        await world.store.message_failed(99, START, "gone")


async def test_what_is_said_of_an_incident_reaches_each_notifier_in_order(world: World) -> None:
    """Or people would hear that it is over before they hear that there is one."""
    for subject, incident in (("declared", 1), ("another", 2), ("resolved", 1)):
        message = Message(
            chain="", severity=Severity.P2, subject=subject, body="b", incident=IncidentId(incident)
        )
        await world.store.record((), (message,))
        world.later(1)

    async def due() -> dict[tuple[str, str | None], int]:
        found = await world.store.due_messages(10)
        return {(one.message.subject, one.notifier): one.id for one in found}

    first = await due()
    assert set(first) == {("another", None), ("declared", None)}
    await world.store.spread_message(first["declared", None], ["mail", "pager"])
    await world.store.message_sent(first["another", None], AuditEvent(kind="message.sent"))
    second = await due()
    assert set(second) == {("declared", "mail"), ("declared", "pager"), ("resolved", None)}
    await world.store.spread_message(second["resolved", None], ["mail", "pager"])
    await world.store.message_sent(second["declared", "mail"], AuditEvent(kind="message.sent"))
    third = await due()
    assert set(third) == {("declared", "pager"), ("resolved", "mail")}
    await world.store.message_sent(third["resolved", "mail"], AuditEvent(kind="message.sent"))
    # What a notifier never takes holds up the later calls only so long.
    for _ in range(6):
        left = await due()
        assert set(left) == {("declared", "pager")}
        await world.store.message_failed(left["declared", "pager"], world.now, "too long")
        world.later(10 * MINUTE)
    left = await due()
    assert set(left) == {("resolved", "pager")}
    await world.store.message_sent(left["resolved", "pager"], SENT)
    await _nothing_more(world, given_up=[first["declared", None] + 3])


SENT = AuditEvent(kind="message.sent")


async def _nothing_more(world: World, given_up: list[int]) -> None:
    """What a later message went past is never sent, and the audit log says so."""
    world.later(HOUR)
    assert await world.store.due_messages(10) == []
    events = [one.event for one in await world.store.audit(kind="message.abandoned")]
    assert [event.data["messages"] for event in events] == [given_up]


async def said(world: World, *subjects: str) -> None:
    """Messages of one incident, each in a change of its own."""
    for subject in subjects:
        message = Message(chain="", severity=Severity.P2, subject=subject, body="b", incident=IncidentId(7))
        await world.store.record((), (message,))


async def next_for(world: World, notifier: str | None) -> tuple[str, int] | None:
    """The one message of the incident that is due for a notifier."""
    found = [one for one in await world.store.due_messages(10) if one.notifier == notifier]
    assert len(found) <= 1
    return (found[0].message.subject, found[0].id) if found else None


async def spread(world: World, *orders: Sequence[str]) -> None:
    """Address what was said, one after the other, to notifiers in these orders."""
    for notifiers in orders:
        found = await next_for(world, None)
        assert found is not None
        assert await world.store.spread_message(found[1], notifiers)


@pytest.mark.parametrize("later", [0, -HOUR])
async def test_order_is_kept_within_a_millisecond_and_when_the_clock_is_set_back(
    world: World, later: int
) -> None:
    await said(world, "declared")
    world.later(later)
    await said(world, "resolved")
    world.later(2 * HOUR)
    await spread(world, ["mail", "pager"], ["pager", "mail"])
    for notifier in ("mail", "pager"):
        for subject in ("declared", "resolved"):
            found = await next_for(world, notifier)
            assert found is not None
            assert found[0] == subject
            await world.store.message_sent(found[1], SENT)


async def test_a_notifier_that_is_away_for_long_hears_everything_in_order(world: World) -> None:
    """And one that is well is not held up."""
    await said(world, "declared", "resolved")
    await spread(world, ["dead", "well"], ["dead", "well"])
    for subject in ("declared", "resolved"):
        found = await next_for(world, "well")
        assert found is not None
        assert found[0] == subject
        await world.store.message_sent(found[1], SENT)
    for _ in range(8):  # 5 s, 5 s, 10 s … : a good ten minutes
        found = await next_for(world, "dead")
        assert found is not None
        assert found[0] == "declared"
        state = await world.store.message_failed(found[1], world.now, "HTTP 503")
        assert state is not None
        assert state.retry_at is not None
        world.later(state.retry_at - world.now)
    for subject in ("declared", "resolved"):
        found = await next_for(world, "dead")
        assert found is not None
        assert found[0] == subject
        await world.store.message_sent(found[1], SENT)
    assert await world.kinds() == ["message.sent"] * 4


async def test_what_a_notifier_refuses_while_it_takes_others_holds_up_no_call(world: World) -> None:
    await said(world, "declared", "call")
    await spread(world, ["pager"], ["pager"])
    declared = await next_for(world, "pager")
    assert declared is not None
    for _ in range(4):  # the first may be an outage that begins
        assert await next_for(world, "pager") == declared
        await world.store.message_failed(declared[1], world.now, "too long")
        world.later(10 * SECOND)
        other = Message(chain="x", severity=Severity.P2, subject="other", body="b")
        await world.store.record((), (other,))
        (whole,) = [one for one in await world.store.due_messages(10) if one.notifier is None]
        await world.store.spread_message(whole.id, ["pager"])
        await world.store.message_sent(whole.id, SENT)
    due = {one.message.subject: one.id for one in await world.store.due_messages(10)}
    assert set(due) == {"declared", "call"}
    await world.store.message_sent(due["call"], SENT)
    await _nothing_more(world, given_up=[declared[1]])


async def test_what_was_given_up_holds_up_nothing(world: World) -> None:
    await said(world, "declared")
    world.later(1)
    await said(world, "resolved")
    await spread(world, ["pager"], ["pager"])
    declared = await next_for(world, "pager")
    assert declared is not None
    assert declared[0] == "declared"
    given_up = AuditEvent(kind="message.abandoned")
    assert await world.store.abandon_messages("pager", Instant(world.now - 1), given_up) == 1
    found = await next_for(world, "pager")
    assert found is not None
    assert found[0] == "resolved"


async def test_a_failed_message_comes_back_when_it_is_time(world: World) -> None:
    await post(world, "one")
    [message] = await world.store.due_messages(10)
    await world.store.message_failed(message.id, Instant(START + SECOND), "no route")
    assert await world.store.due_messages(10) == []
    world.later(SECOND)
    [again] = await world.store.due_messages(10)
    assert (again.id, again.attempts) == (message.id, 1)


async def test_policies_are_known_from_former_sets_and_from_runs(world: World) -> None:
    assert not await world.store.policy_names()
    run = await world.start()
    await world.store.propose(Revision(hash="h1", files={"team/queue.yaml": "x", "limits.yaml": "y"}), ())
    await world.store.propose(Revision(hash="h2", files={"pool.yaml": "x"}), ())
    assert await world.store.policy_names() == {run.policy, "queue", "limits", "pool"}


async def test_the_active_policies_and_their_text(world: World) -> None:
    assert await world.store.active_revision() is None
    first = Revision(hash="h1", files={"a.yaml": "name: a\n"}, git="abc")
    await world.store.propose(first, (AuditEvent(kind="policy.loaded"),))
    world.later(SECOND)
    await world.store.propose(Revision(hash="h2", files={}), ())
    assert await world.store.active_revision() == "h2"
    found = await world.store.revision("h1")
    assert (found.files, found.git, found.loaded_at) == ({"a.yaml": "name: a\n"}, "abc", START)
    await world.store.propose(first, ())  # back to the former set
    assert await world.store.active_revision() == "h1"
    assert await world.kinds() == ["policy.loaded"]
    with pytest.raises(NotFound, match="h3"):
        await world.store.revision("h3")


async def test_a_rejected_body_is_kept_with_its_events(world: World) -> None:
    bad = (Bad(field="", message="not JSON", body=b"\x00\xff"),)
    await world.store.reject("am", 400, bad, (AuditEvent(kind="alert.rejected", actor="sender:am"),))
    assert await world.kinds() == ["alert.rejected"]
    world.later(1)
    assert await world.store.prune({"rejected": Millis(0)}) == {"rejected": 1}


async def test_health(world: World) -> None:
    empty = await world.store.health()
    assert empty.open_runs == 0
    assert empty.oldest_due_at is empty.outbox_oldest_at is empty.unsealed_oldest_at is None
    await post(world, "one")
    await world.deliver(alert("b"), alert("c"), alert("d", Status.RESOLVED))
    world.later(MINUTE)
    health = await world.store.health()
    assert health.open_runs == 1
    assert health.oldest_due_at == health.outbox_oldest_at == health.unsealed_oldest_at == START
    await world.store.seal()
    assert (await world.store.health()).unsealed_oldest_at is None
    await world.claimed(1)
    assert (await world.store.health()).oldest_due_at is None


async def test_now_is_the_clocks(world: World) -> None:
    world.later(MINUTE)
    assert await world.store.now() == START + MINUTE
