"""Incidents: one open for a target, changed by one at a time, with what is said in the same transaction."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from remediator.contracts import Declaration, IncidentChange
from remediator.errors import NotFound
from remediator.model import (
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Incident,
    IncidentId,
    Instant,
    Message,
    Millis,
    Outcome,
    Run,
    Severity,
    State,
    Status,
)
from tests.store.world import START, World, alert

CALL = Message(chain="", severity=Severity.P2, subject="s", body="b")


def declared(target: str = "db:a", key: str | None = None, **more: object) -> Declaration:
    wanted = Declaration(
        target=target,
        target_key=key or target,
        severity=Severity.P3,
        chain="on-call",
        policy="p",
    )
    return msgspec.structs.replace(wanted, **more)


async def declare(world: World, name: str = "a", target: str = "db:a", **more: object) -> Run:
    """End a run in a person's hands."""
    run = await world.start(name, target=target, policy=f"p-{name}")
    return await world.move(run, run.state, outcome=Outcome.REFUSED, incident=declared(target, **more))


async def only(world: World) -> Incident:
    (found,) = await world.store.find_incidents()
    return found


async def test_it_is_declared_with_the_end_of_the_run(world: World) -> None:
    run = await declare(world)
    incident = await only(world)
    assert (incident.target, incident.severity, incident.opened_at) == ("db:a", Severity.P3, START)
    assert incident.next_at == START
    assert incident.progress.news == (run.id,)
    assert [one.id for one in await world.store.incident_runs(incident.id)] == [run.id]
    assert "incident.declared" in await world.kinds(run=run.id)
    assert [one.id for one in await world.store.due_incidents(10)] == [incident.id]
    assert await world.store.incident(incident.id) == incident


async def test_a_run_whose_lease_is_lost_declares_nothing(world: World) -> None:
    run = await world.start("a")
    stale = msgspec.structs.replace(run, epoch=run.epoch - 1)
    with pytest.raises(Exception, match="no longer its own"):
        await world.move(stale, run.state, outcome=Outcome.REFUSED, incident=declared())
    assert await world.store.find_incidents() == []


async def test_runs_of_a_target_join_what_is_open_and_the_gravest_counts(world: World) -> None:
    first = await declare(world, "a", severity=Severity.P4, chain="team")
    world.later(SECOND)
    second = await declare(world, "b", severity=Severity.P2, chain="on-call", policy="grave")
    third = await declare(world, "c", severity=Severity.P3, chain="other", by_person=True)
    incident = await only(world)
    assert incident.severity is Severity.P2
    assert (incident.progress.chain, incident.progress.policy) == ("on-call", "grave")
    assert incident.progress.by_person
    ids = [first.id, second.id, third.id]
    assert [one.id for one in await world.store.incident_runs(incident.id)] == ids
    assert list(incident.progress.news) == ids
    assert (incident.opened_at, incident.next_at) == (START, START + SECOND)
    assert (await world.kinds()).count("incident.updated") == 2


async def test_another_name_of_the_same_target_is_the_same_incident(world: World) -> None:
    await declare(world, "a", target="db:a", key="k:1")
    await declare(world, "b", target="db:alias", key="k:1")
    await declare(world, "c", target="db:a")  # before its identity is known
    assert len(await world.store.find_incidents()) == 1
    await declare(world, "d", target="db:other")
    assert len(await world.store.find_incidents()) == 2


async def test_what_is_opened_ahead_is_opened_once_for_a_run(world: World) -> None:
    run = await world.start("a")
    ahead = declared(calling=False)
    run = await world.move(run, State.GUARD, incident=ahead)
    incident = await only(world)
    assert incident.progress.news == ()
    await world.store.change_incident(
        incident, IncidentChange(progress=incident.progress, next_at=None, resolved=True)
    )
    await world.move(await world.claimed(run.id), State.GUARD, incident=ahead)
    assert len(await world.store.find_incidents()) == 1
    run = await world.claimed(run.id)
    await world.move(run, State.GUARD, outcome=Outcome.REFUSED, incident=declared())
    assert len(await world.store.find_incidents()) == 2


async def test_after_its_end_the_next_is_another(world: World) -> None:
    await declare(world, "a")
    incident = await only(world)
    change = IncidentChange(progress=incident.progress, next_at=None, resolved=True)
    ended = await world.store.change_incident(incident, change)
    assert ended is not None
    assert ended.resolved_at == START
    await declare(world, "b")
    newest, oldest = await world.store.find_incidents()
    assert (newest.open, oldest.open) == (True, False)
    assert [one.id for one in await world.store.find_incidents(open=True)] == [newest.id]
    assert [one.id for one in await world.store.find_incidents(before=newest.id)] == [oldest.id]
    with pytest.raises(NotFound):
        await world.store.incident(IncidentId(99))


async def test_who_saw_an_older_state_changes_nothing(world: World) -> None:
    """The compare-and-set, also within one millisecond of the clock."""
    await declare(world)
    seen = await only(world)
    change = IncidentChange(
        progress=msgspec.structs.replace(seen.progress, told=("after 0s: primary",)),
        next_at=Instant(START + MINUTE),
        messages=(CALL,),
        events=(AuditEvent(kind="incident.escalated"),),
    )
    answers = await asyncio.gather(*(world.store.change_incident(seen, change) for _ in range(8)))
    assert len([one for one in answers if one is not None]) == 1
    assert len(await world.store.due_messages(100)) == 1
    assert (await world.kinds()).count("incident.escalated") == 1
    assert await world.store.next_incident_at() == START + MINUTE


async def test_an_acknowledgement_and_a_step_do_not_pass_each_other(world: World) -> None:
    await declare(world)
    seen = await only(world)
    ack = IncidentChange(progress=seen.progress, next_at=seen.next_at, acknowledged_by="alice")
    step = IncidentChange(progress=seen.progress, next_at=seen.next_at, messages=(CALL,))
    answers = await asyncio.gather(
        world.store.change_incident(seen, ack), world.store.change_incident(seen, step)
    )
    assert sum(one is not None for one in answers) == 1
    after = await only(world)
    said = await world.store.due_messages(100)
    assert (after.acknowledged_by is None) == (len(said) == 1)


async def settled(world: World) -> list[IncidentId]:
    return [one.id for one in await world.store.settled_incidents(IncidentId(0), 100)]


async def test_it_is_settled_when_no_alert_fires_and_no_run_is_open(world: World) -> None:
    await declare(world)
    incident = await only(world)
    assert await settled(world) == []
    world.later(MINUTE)
    await world.deliver(alert("a", Status.RESOLVED))
    assert await settled(world) == [incident.id]
    assert list(await world.store.settled_incidents(incident.id, 100)) == []
    run = await world.start("b", target="db:a", policy="late")
    assert [(id, one.id) for id, one in await world.store.joining_runs(10)] == [(incident.id, run.id)]
    joined = IncidentChange(progress=incident.progress, next_at=incident.next_at, runs=(run.id,))
    assert await world.store.change_incident(incident, joined) is not None
    assert await settled(world) == []
    assert await world.store.joining_runs(10) == []


async def test_a_quarantine_keeps_it_open(world: World) -> None:
    await declare(world, key="k:a")
    await world.deliver(alert("a", Status.RESOLVED))
    brake = Control(
        kind=ControlKind.QUARANTINE, scope="target:k:a", reason="r", actor="daemon", since=world.now
    )
    await world.store.set_control(brake, AuditEvent(kind="target.quarantined"))
    assert await settled(world) == []
    await world.store.clear_control(ControlKind.QUARANTINE, "target:k:a", AuditEvent(kind="target.cleared"))
    assert len(await settled(world)) == 1


async def test_incidents_are_found_by_run_and_by_alert(world: World) -> None:
    run = await declare(world, "a")
    other = await declare(world, "b", target="db:b")
    first, second = reversed(await world.store.find_incidents())
    assert list(await world.store.find_incidents(run=run.id)) == [first]
    assert list(await world.store.find_incidents(alert=other.alert)) == [second]


async def test_it_outlives_a_restart(world: World) -> None:
    await declare(world)
    before = await only(world)
    await world.reopen()
    assert await only(world) == before


async def test_a_chain_goes_with_a_clock_that_jumps(world: World) -> None:
    await declare(world)
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="r", actor="daemon", since=world.now)
    await world.store.jumped(Millis(-7 * MINUTE), pause, AuditEvent(kind="control.paused"), ())
    incident = await only(world)
    assert (incident.opened_at, incident.next_at) == (START - 7 * MINUTE, START - 7 * MINUTE)


# ---------------------------------------------------------------- the outbox


async def test_a_message_becomes_one_for_each_notifier_once(world: World) -> None:
    await world.store.record((), (CALL,))
    (whole,) = await world.store.due_messages(10)
    assert whole.notifier is None
    answers = await asyncio.gather(
        *(world.store.spread_message(whole.id, ["primary", "secondary"]) for _ in range(4))
    )
    assert sorted(answers) == [False, False, False, True]
    due = await world.store.due_messages(10)
    assert sorted(str(one.notifier) for one in due) == ["primary", "secondary"]
    assert {one.at for one in due} == {START}


async def to(world: World, name: str, count: int) -> None:
    await world.store.record((), [CALL] * count)
    for one in await world.store.due_messages(1000):
        if one.notifier is None:
            await world.store.spread_message(one.id, [name])


async def test_a_notifier_that_fails_is_tried_by_one_message_at_a_time(world: World) -> None:
    await to(world, "dead", 5)
    due = list(await world.store.due_messages(100))
    assert len(due) == 5
    state = await world.store.message_failed(due[0].id, Instant(START + 5 * SECOND), "HTTP 503")
    assert state is not None
    assert (state.failing_since, state.retry_at) == (START, START + 5 * SECOND)
    assert list(await world.store.due_messages(100)) == []
    world.later(5 * SECOND)
    (probe,) = await world.store.due_messages(100)
    assert probe.id == due[1].id  # what was tried least
    assert list(await world.store.due_messages(100)) == []
    state = await world.store.message_sent(probe.id, AuditEvent(kind="message.sent"))
    assert state is not None
    assert state.failing_since is None
    assert len(await world.store.due_messages(100)) == 4


async def test_what_fails_is_told_once_and_its_return_too(world: World) -> None:
    await to(world, "dead", 1)
    (one,) = await world.store.due_messages(100)
    event = AuditEvent(kind="notifier.failing")
    assert not await world.store.tell_notifier("dead", True, event, (CALL,))
    await world.store.message_failed(one.id, Instant(START + SECOND), "no answer")
    told = await asyncio.gather(*(world.store.tell_notifier("dead", True, event, (CALL,)) for _ in range(4)))
    assert sorted(told) == [False, False, False, True]
    well = AuditEvent(kind="notifier.recovered")
    assert not await world.store.tell_notifier("dead", False, well, ())  # it is not
    await world.store.message_sent(one.id, AuditEvent(kind="message.sent"))
    assert await world.store.tell_notifier("dead", False, well, ())
    assert (await world.kinds()).count("notifier.failing") == 1
    (state,) = await world.store.notifiers()
    assert (state.name, state.told_at) == ("dead", None)


async def test_what_is_given_up_is_said_by_its_numbers(world: World) -> None:
    await to(world, "dead", 3)
    ids = sorted(one.id for one in await world.store.due_messages(100))
    world.later(MINUTE)
    await to(world, "dead", 1)
    count = await world.store.abandon_messages("dead", START, AuditEvent(kind="message.abandoned"))
    assert count == 3
    (event,) = [one.event for one in await world.store.audit(kind="message.abandoned")]
    assert sorted(event.data["messages"]) == ids
