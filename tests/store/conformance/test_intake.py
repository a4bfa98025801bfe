"""What a delivery does: episodes, repeats, late peers, ends, and the runs they open."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from remediator.contracts import Bad, Receipt
from remediator.errors import NotFound, PayloadError
from remediator.model import (
    HOUR,
    MANUAL,
    MINUTE,
    SECOND,
    AlertId,
    AuditEvent,
    Instant,
    Millis,
    Origin,
    Outcome,
    Reason,
    RunId,
    State,
    Status,
)
from tests.store.world import START, World, alert, delivery, nothing, opening


async def test_a_new_alert_is_an_episode(world: World) -> None:
    receipt = await world.deliver(alert("a", labels={"queue": "prod"}, value=3.5))
    assert (receipt.accepted, receipt.repeated, receipt.runs) == (1, 0, ())
    episode = await world.store.episode(receipt.alerts[0])
    assert episode.alert == alert("a", labels={"queue": "prod"}, value=3.5)
    assert episode.received_at == episode.seen_at == world.now
    assert episode.resolved_at is None
    assert episode.policy_revision == "set-1"


async def test_a_receipt_says_when_a_run_is_to_be_looked_at_first(world: World) -> None:
    waits = {"hold": 10 * MINUTE, "soon": SECOND, "now": 0}
    world.openings = lambda one: (
        opening(one.fingerprint, None, next_at=Instant(START + waits[one.fingerprint])),
    )
    assert (await world.deliver(alert("hold"))).due == START + 10 * MINUTE
    assert (await world.deliver(alert("hold"))).due is None
    assert (await world.deliver(alert("hold", at=START - 1), alert("soon"), alert("now"))).due == START
    world.later(MINUTE)
    # The run that waits is looked at because of it.
    assert (await world.deliver(alert("hold", Status.RESOLVED))).due == world.now


async def test_a_run_that_is_refused_is_not_looked_at(world: World) -> None:
    world.openings = lambda one: (opening(target=None, open_runs=0),)
    receipt = await world.deliver(alert("a"))
    assert (receipt.refused, receipt.due) == (("p",), None)


async def test_an_unknown_alert_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="17"):
        await world.store.episode(AlertId(17))


async def test_a_repeat_writes_nothing_and_is_seen(world: World) -> None:
    first = await world.deliver(alert("a"))
    before = await world.store.audit()
    world.later(MINUTE)
    again = await world.deliver(alert("a"))
    assert (again.accepted, again.repeated, again.alerts) == (0, 1, ())
    assert await world.store.audit() == before
    assert (await world.store.episode(first.alerts[0])).seen_at == START + MINUTE


async def test_seen_at_is_unknown_after_a_restart_until_it_comes_again(world: World) -> None:
    first = await world.deliver(alert("a"))
    await world.reopen()
    assert (await world.store.episode(first.alerts[0])).seen_at is None
    assert (await world.deliver(alert("a"))).repeated == 1
    assert (await world.store.episode(first.alerts[0])).seen_at == world.now


async def test_new_words_update_the_episode(world: World) -> None:
    first = await world.deliver(alert("a"))
    second = await world.deliver(alert("a", annotations={"value": "91%"}))
    assert (second.accepted, second.updated) == (0, 1)
    episode = await world.store.episode(first.alerts[0])
    assert episode.alert.annotations == {"value": "91%"}


async def test_another_start_of_an_open_alert_updates_it_and_keeps_its_identity(world: World) -> None:
    first = await world.deliver(alert("a", at=START - MINUTE))
    second = await world.deliver(alert("a", at=START - SECOND))
    assert (second.accepted, second.updated) == (0, 1)
    assert (await world.store.episode(first.alerts[0])).alert.starts_at == START - MINUTE
    assert (await world.deliver(alert("a", at=START - SECOND))).repeated == 1


async def test_a_start_after_all_was_over_is_a_new_episode_although_no_end_was_told(world: World) -> None:
    """A sender that lost its memory never says that the first one ended."""
    world.openings = lambda one: (opening(),)
    await world.activate()
    first = await world.deliver(alert("a"))
    await world.end(await world.claimed(first.runs[0]))
    world.later(MINUTE + 1)
    began = world.now
    world.later(SECOND)
    second = await world.deliver(alert("b", at=world.now), alert("a", at=began))
    assert (second.accepted, second.updated) == (2, 0)
    assert len(set(second.runs)) == 1
    assert first.runs[0] not in second.runs
    again = second.alerts[1]
    assert (await world.store.episode(again)).alert.starts_at == began
    former = await world.store.episode(first.alerts[0])
    assert (former.alert.status, former.resolved_at) == (Status.CLOSED, world.now)
    assert await world.kinds(alert=first.alerts[0]) == ["alert.accepted", "run.created", "alert.superseded"]
    assert (await world.deliver(alert("a", at=began))).repeated == 1
    assert (await world.deliver(alert("a", Status.RESOLVED, at=began))).resolved == 1
    assert await world.status(again) is Status.RESOLVED
    await world.store.seal()
    assert (await world.store.verify()).whole


async def test_another_start_belongs_to_the_run_that_is_open(world: World) -> None:
    world.openings = lambda one: (opening(),)
    await world.activate()
    first = await world.deliver(alert("a"))
    world.later(MINUTE)
    assert (await world.deliver(alert("a", at=world.now))).updated == 1
    started = world.now
    world.later(MINUTE)
    await world.end(await world.claimed(first.runs[0]))
    # A peer that has not heard of the later start, and one that has: what began before the run's end was its.
    assert (await world.deliver(alert("a"))).updated == 1
    assert (await world.deliver(alert("a", at=started))).updated == 1
    world.later(MINUTE)
    assert (await world.deliver(alert("a", at=world.now + SECOND))).updated == 1  # said before it is so
    world.later(1)
    assert (await world.deliver(alert("a", at=world.now))).accepted == 1


async def test_what_began_anew_without_a_run_is_a_new_episode_too(world: World) -> None:
    first = await world.deliver(alert("a"))
    world.later(MINUTE + 1)
    second = await world.deliver(alert("a", at=world.now))
    assert (second.accepted, len(second.alerts)) == (1, 1)
    assert not (await world.store.episode(first.alerts[0])).firing
    await world.reopen()
    assert (await world.deliver(alert("a", at=world.now))).repeated == 1


async def test_a_resolve_ends_the_episode(world: World) -> None:
    first = await world.deliver(alert("a"))
    world.later(MINUTE)
    second = await world.deliver(alert("a", Status.RESOLVED, ends_at=world.now))
    assert second.resolved == 1
    episode = await world.store.episode(first.alerts[0])
    assert (episode.alert.status, episode.resolved_at) == (Status.RESOLVED, world.now)
    assert not episode.firing


async def test_closed_ends_it_but_is_no_recovery_until_a_resolve_says_so(world: World) -> None:
    first = await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.CLOSED))
    episode = await world.store.episode(first.alerts[0])
    assert (episode.alert.status, episode.firing) == (Status.CLOSED, False)
    assert (await world.deliver(alert("a", Status.RESOLVED))).resolved == 1
    assert await world.status(first.alerts[0]) is Status.RESOLVED
    assert (await world.deliver(alert("a", Status.CLOSED))).repeated == 1


@pytest.mark.parametrize(("after", "accepted"), [(5 * MINUTE, 0), (5 * MINUTE + 1, 1)])
async def test_a_late_peer_is_ignored_for_five_minutes(world: World, after: int, accepted: int) -> None:
    world.openings = lambda one: (opening(),)
    await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.RESOLVED))
    world.later(after)
    late = await world.deliver(alert("a"))
    assert (late.accepted, late.repeated) == (accepted, 1 - accepted)
    if accepted:  # a new episode, and its own identity
        assert (await world.store.episode(late.alerts[0])).alert.starts_at == world.now
        assert (await world.deliver(alert("a"))).repeated == 1


async def test_the_five_minutes_outlive_a_restart(world: World) -> None:
    await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.RESOLVED))
    await world.reopen()
    world.later(4 * MINUTE)
    assert (await world.deliver(alert("a"))).repeated == 1


async def test_a_later_start_after_a_resolve_is_a_new_episode(world: World) -> None:
    first = await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.RESOLVED))
    world.later(SECOND)
    second = await world.deliver(alert("a", at=world.now))
    assert second.accepted == 1
    assert second.alerts != first.alerts


async def test_the_late_end_of_an_earlier_episode_does_not_end_this_one(world: World) -> None:
    await world.deliver(alert("a", at=START))
    await world.deliver(alert("a", Status.RESOLVED, at=START, ends_at=START + SECOND))
    world.later(MINUTE)
    second = await world.deliver(alert("a", at=START + MINUTE))
    late = await world.deliver(alert("a", Status.RESOLVED, at=START, ends_at=START + SECOND))
    assert (late.resolved, late.repeated) == (0, 1)
    assert await world.status(second.alerts[0]) is Status.FIRING


async def test_an_alert_forgotten_by_memory_is_still_known_by_its_row(world: World) -> None:
    first = await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.RESOLVED))
    world.later(2 * 60 * MINUTE)
    await world.deliver(alert("other", at=world.now))  # a transaction, after which memory lets go
    assert (await world.deliver(alert("a", Status.RESOLVED))).repeated == 1
    again = await world.deliver(alert("a"))
    assert again.accepted == 1
    assert again.alerts != first.alerts
    assert (await world.store.episode(again.alerts[0])).alert.starts_at == world.now


async def test_a_resolve_of_an_unknown_alert_is_an_ended_episode_without_runs(world: World) -> None:
    world.openings = lambda one: (opening(),)
    receipt = await world.deliver(alert("a", Status.RESOLVED))
    assert (receipt.accepted, receipt.resolved, receipt.runs) == (0, 1, ())
    [episode] = await world.store.find_episodes(firing=False)
    assert episode.alert.status is Status.RESOLVED
    assert (await world.deliver(alert("a", Status.RESOLVED))).repeated == 1


@pytest.mark.parametrize("sent", [START + 10 * MINUTE, 0, -62_135_596_800_000])
async def test_a_start_in_the_future_or_none_is_the_time_of_receipt(world: World, sent: int) -> None:
    seen: list[int] = []
    world.openings = lambda one: seen.append(one.starts_at) or ()  # type: ignore[func-returns-value]
    receipt = await world.deliver(alert("a", at=sent))
    assert (await world.store.episode(receipt.alerts[0])).alert.starts_at == START
    assert seen == [START]
    world.later(MINUTE)
    assert (await world.deliver(alert("a", at=sent))).repeated == 1


async def test_the_same_fingerprint_twice_in_one_body_is_handled_in_order(world: World) -> None:
    receipt = await world.deliver(alert("a"), alert("a", Status.RESOLVED), alert("b"))
    assert (receipt.accepted, receipt.resolved) == (2, 1)
    assert [await world.status(id) for id in receipt.alerts] == [Status.RESOLVED, Status.FIRING]
    assert await world.kinds(alert=receipt.alerts[0]) == ["alert.accepted", "alert.resolved"]


async def test_an_alert_may_end_and_come_again_in_one_body(world: World) -> None:
    world.openings = lambda one: (opening(target=f"db:{one.starts_at}"),)
    again = alert("a", at=START + SECOND)
    receipt = await world.deliver(alert("a"), alert("a", Status.RESOLVED), again, alert("b"))
    assert (receipt.accepted, receipt.resolved) == (3, 1)
    world.later(MINUTE)
    more = [alert("a", at=START + span * SECOND) for span in (2, 3)]
    ends = [alert("a", Status.RESOLVED, at=one.starts_at) for one in (again, *more)]
    receipt = await world.deliver(ends[0], more[0], ends[1], more[1], ends[2])
    assert (receipt.accepted, receipt.resolved) == (2, 3)
    assert [await world.status(id) for id in receipt.alerts] == [Status.RESOLVED, Status.RESOLVED]
    assert sorted(await world.kinds(alert=receipt.alerts[1])) == [
        "alert.accepted",
        "alert.resolved",
        "run.created",
    ]


async def test_senders_do_not_share_fingerprints(world: World) -> None:
    await world.deliver(alert("a"))
    other = await world.deliver(alert("a", sender="gcp"), sender="gcp")
    assert other.accepted == 1
    assert (await world.store.episode(other.alerts[0])).alert.sender == "gcp"


async def test_a_test_notification_is_recorded_and_never_acted_on(world: World) -> None:
    world.openings = lambda one: (opening(),)
    receipt = await world.deliver(alert("a"), test=True)
    assert (receipt.accepted, receipt.runs) == (0, ())
    assert await world.kinds() == ["alert.test"]
    assert await world.store.find_episodes() == []


async def test_truncation_is_visible_in_the_audit_log(world: World) -> None:
    await world.deliver(alert("a"), truncated=7)
    [record] = await world.store.audit(kind="alert.accepted")
    assert record.event.data["truncated"] == 7


async def test_bad_alerts_are_kept_beside_the_good_ones(world: World) -> None:
    receipt = await world.deliver(
        alert("a"), bad=(Bad(field="alerts[1].labels", message="not a mapping", body=b"{}"),)
    )
    assert receipt.accepted == 1
    [record] = await world.store.audit(kind="alert.rejected")
    assert record.event.observed == "alerts[1].labels: not a mapping"
    world.later(1)
    assert (await world.store.prune({"rejected": Millis(0)})) == {"rejected": 1}


async def test_what_cannot_be_stored_is_refused_by_name_and_changes_nothing(world: World) -> None:
    with pytest.raises(PayloadError, match="cannot be stored"):
        await world.deliver(alert("good"), alert("bad", at=2**70))
    assert await world.store.find_episodes() == []
    assert (await world.deliver(alert("good"))).accepted == 1


async def test_a_match_that_breaks_off_spoils_only_its_own_delivery(world: World) -> None:
    def broken(one: object, now: object) -> tuple[()]:
        raise ZeroDivisionError("a fault in matching")

    with pytest.raises(ZeroDivisionError):
        await world.store.accept(delivery((alert("a"),), world.now), broken)
    assert (await world.store.accept(delivery((alert("a"),), world.now), nothing)).accepted == 1


async def test_find_episodes_pages_newest_first(world: World) -> None:
    receipt = await world.deliver(*(alert(f"a{number}") for number in range(5)))
    await world.deliver(alert("a1", Status.RESOLVED))
    found = await world.store.find_episodes(limit=2)
    assert [one.id for one in found] == [receipt.alerts[4], receipt.alerts[3]]
    found = await world.store.find_episodes(before=found[-1].id, limit=2)
    assert [one.id for one in found] == [receipt.alerts[2], receipt.alerts[1]]
    firing = await world.store.find_episodes(firing=True)
    assert receipt.alerts[1] not in [one.id for one in firing]
    assert [one.id for one in await world.store.find_episodes(firing=False)] == [receipt.alerts[1]]


# ---------------------------------------------------------------- the runs


async def test_a_new_alert_opens_its_runs_in_the_same_transaction(world: World) -> None:
    world.openings = lambda one: (opening("p"), opening("q", target=None, state=State.HOLD))
    receipt = await world.deliver(alert("a"))
    runs = [await world.store.run(id) for id in receipt.runs]
    assert [(run.policy, run.target, run.state, run.outcome) for run in runs] == [
        ("p", "db:orders", State.GUARD, None),
        ("q", None, State.HOLD, None),
    ]
    assert [run.alert for run in runs] == [receipt.alerts[0]] * 2
    assert await world.kinds() == ["alert.accepted", "run.created", "run.created"]
    assert [one.id for one in await world.store.episodes(runs[0].id)] == [receipt.alerts[0]]


async def test_a_further_episode_of_the_target_attaches(world: World) -> None:
    world.openings = lambda one: (opening(),)
    first = await world.deliver(alert("a"))
    world.later(SECOND)
    second = await world.deliver(alert("b"))
    assert second.runs == first.runs
    run = first.runs[0]
    assert [one.id for one in await world.store.episodes(run)] == [first.alerts[0], second.alerts[0]]
    assert await world.kinds(run=run) == ["run.created", "run.attached"]
    assert [one.id for one in await world.store.find_runs(alert=second.alerts[0])] == [run]


async def test_runs_without_a_target_do_not_attach_to_each_other(world: World) -> None:
    world.openings = lambda one: (opening(target=None),)
    receipt = await world.deliver(alert("a"), alert("b"))
    assert len(receipt.runs) == 2


async def test_after_the_run_ended_the_next_episode_opens_another(world: World) -> None:
    run = await world.start("a", target="db:orders")
    await world.end(run)
    assert (await world.start("b", target="db:orders")).id != run.id


async def test_more_open_runs_than_allowed_are_stored_refused(world: World) -> None:
    world.openings = lambda one: (opening(target=one.fingerprint, open_runs=2),)
    receipt = await world.deliver(*(alert(name) for name in "abc"))
    runs = [await world.store.run(id) for id in receipt.runs]
    assert [run.outcome for run in runs] == [None, None, Outcome.REFUSED]
    assert runs[2].reason is Reason.OPEN_RUNS
    assert (runs[2].observed, runs[2].allowed) == ("2 open runs of p", "fewer than 2 open runs")
    assert await world.kinds(run=runs[2].id) == ["run.refused"]
    assert runs[2].id not in [run.id for run in await world.store.claim("w", 10)]


async def test_open_runs_are_counted_over_deliveries_that_come_together(world: World) -> None:
    world.openings = lambda one: (opening(target=one.fingerprint, open_runs=3),)
    receipts = await asyncio.gather(*(world.deliver(alert(name)) for name in "abcde"))
    runs = [await world.store.run(id) for receipt in receipts for id in receipt.runs]
    assert sorted(run.outcome is None for run in runs) == [False, False, True, True, True]
    first, *_ = await world.store.claim("w", 10)
    await world.end(first)
    again = await asyncio.gather(*(world.deliver(alert(name)) for name in "fg"))
    runs = [await world.store.run(id) for receipt in again for id in receipt.runs]
    assert sorted(run.outcome is None for run in runs) == [False, True]


async def test_a_run_by_hand_comes_the_same_way(world: World) -> None:
    world.openings = lambda one: (opening(origin=Origin.HAND),)
    receipt = await world.deliver(alert("m", sender="manual"), sender="manual")
    assert (await world.store.run(receipt.runs[0])).origin is Origin.HAND


async def test_a_resolve_wakes_runs_that_have_not_acted(world: World) -> None:
    world.openings = lambda one: (opening(state=State.HOLD, next_at=START + 10 * MINUTE),)
    receipt = await world.deliver(alert("a"))
    assert await world.store.claim("w", 10) == []
    await world.deliver(alert("a", Status.RESOLVED))
    [run] = await world.store.claim("w", 10)
    assert run.id == receipt.runs[0]
    assert run.outcome is None


async def test_a_wake_is_not_lost_to_the_timer_of_a_worker_that_did_not_know(world: World) -> None:
    run = await world.start("a", state=State.HOLD)
    await world.deliver(alert("a", Status.RESOLVED, at=world.now))
    moved = await world.move(run, next_at=START + 10 * MINUTE)
    assert moved.next_at == world.now
    assert [one.id for one in await world.store.claim("w", 10)] == [run.id]


async def test_a_resolve_leaves_an_acting_run_alone(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    run = await world.move(run, State.VERIFY, next_at=START + 10 * MINUTE)
    await world.deliver(alert("a", Status.RESOLVED))
    assert (await world.store.run(run.id)).next_at == START + 10 * MINUTE


async def test_an_unknown_run_has_no_episodes(world: World) -> None:
    assert await world.store.episodes(RunId(99)) == []


async def test_who_started_a_run_by_hand_is_written_with_it(world: World) -> None:
    started = AuditEvent(kind="run.started", actor="alice", policy="p", data={"reason": "it is slow"})
    wanted = opening("p", "db:a", next_at=world.now, origin=Origin.HAND, started=started)
    for name in ("new", "attached"):
        receipt = await world.store.accept(delivery((alert(name),), world.now), lambda _a, _n: (wanted,))
        (event,) = [one.event for one in await world.store.audit(alert=receipt.alerts[0], kind="run.started")]
        assert (event.actor, event.run, event.target) == ("alice", receipt.runs[0], "db:a")
        assert event.data["reason"] == "it is slow"


async def test_an_episode_that_joins_a_run_just_as_it_is_cancelled_is_not_forgotten(world: World) -> None:
    """The run's alert has resolved, and another of its target fires since the worker looked."""
    world.openings = lambda one: (opening(state=State.HOLD),)
    receipt = await world.deliver(alert("a"))
    await world.deliver(alert("a", Status.RESOLVED))
    run = await world.claimed(receipt.runs[0])
    assert (await world.deliver(alert("b"))).runs == (run.id,)
    further = msgspec.structs.replace(run, state=State.GUARD)  # as far as its worker had come with it
    event = AuditEvent(kind="run.cancelled", run=run.id)
    left = await world.end(further, Outcome.CANCELLED, reason=Reason.ALERT_RESOLVED, events=(event,))
    assert (left.outcome, left.state, left.reason) == (None, State.HOLD, None)
    assert "run.cancelled" not in await world.kinds(run=run.id)
    again = await world.claimed(run.id)
    await world.deliver(alert("b", Status.RESOLVED))
    assert (await world.end(again, Outcome.CANCELLED, reason=Reason.ALERT_RESOLVED)).outcome is not None


# ---------------------------------------------------------------- what people start


async def start(world: World, name: str, key: str = "k") -> Receipt:
    """As a person starts it: each time with another fingerprint's time."""
    wanted = delivery((alert(name, sender=MANUAL, at=world.now),), world.now, sender=MANUAL)
    wanted = msgspec.structs.replace(wanted, key=key)
    return await world.store.accept(wanted, lambda one, now: (opening(target=f"db:{name}"),))


async def ended_by_daemon(world: World) -> list[AlertId]:
    """End what is over, as the daemon does; returns that."""
    found = await world.store.started(10)
    for one in found:
        closed = msgspec.structs.replace(one.alert, status=Status.CLOSED)
        await world.deliver(closed, sender=MANUAL)
    return [one.id for one in found]


async def test_a_key_is_one_start_whatever_becomes_of_the_run(world: World) -> None:
    receipts = await asyncio.gather(*(start(world, "a") for _ in range(5)))
    (first,) = {receipt.alerts for receipt in receipts}
    assert sum(receipt.accepted for receipt in receipts) == 1
    (run,) = await world.store.find_runs()
    assert await ended_by_daemon(world) == []
    world.later(HOUR)
    await world.end(await world.claimed(run.id))
    assert await ended_by_daemon(world) == list(first)
    assert await ended_by_daemon(world) == []
    assert await world.status(first[0]) is Status.CLOSED
    for _ in range(2):
        world.later(HOUR)
        assert (await start(world, "a")).alerts == first
    assert len(await world.store.find_runs()) == 1
    assert (await start(world, "a", "other")).alerts != first


async def test_what_is_started_without_a_key_is_no_repetition(world: World) -> None:
    for name in ("a", "b"):
        assert (await start(world, name, "")).accepted == 1
    assert len(await world.store.find_runs()) == 2


async def test_a_key_is_kept_for_so_long_after_its_run(world: World) -> None:
    await start(world, "a")
    (run,) = await world.store.find_runs()
    world.later(HOUR)
    assert await world.store.prune({"started": Millis(0)}) == {}
    await world.end(await world.claimed(run.id))
    await ended_by_daemon(world)
    assert await world.store.prune({"started": Millis(MINUTE)}) == {}
    world.later(HOUR)
    assert await world.store.prune({"started": Millis(MINUTE)}) == {"started": 1}
    assert (await start(world, "a")).accepted == 1
