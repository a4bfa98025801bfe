"""The audit log: one order over events and deliveries, filters, paging, sealing, retention."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.contracts import Bad
from remediator.errors import ConfigurationError
from remediator.model import DAY, HOUR, MINUTE, SECOND, AuditEvent, Instant, Millis, Outcome, Status
from tests.store.world import START, World, alert


async def story(world: World) -> list[int]:
    """Two alerts, two runs, and some events, a second apart; returns the alerts' ids."""
    await world.activate()
    receipt = await world.deliver(alert("a"), alert("b"))
    world.later(SECOND)
    run = await world.start("c", target="db:orders")
    world.later(SECOND)
    await world.admitted(run)
    world.later(SECOND)
    await world.store.record((AuditEvent(kind="audit.read", actor="alice", reason="why", data={"n": 1}),))
    await world.deliver(alert("a", Status.RESOLVED), alert("b", annotations={"x": "y"}))
    return [*receipt.alerts]


STORY = [
    "alert.accepted",
    "alert.accepted",
    "alert.accepted",
    "run.created",
    "run.admitted",
    "audit.read",
    "alert.resolved",
    "alert.updated",
]


async def test_one_order(world: World) -> None:
    await story(world)
    assert await world.kinds() == STORY
    records = await world.store.audit(limit=100)
    assert [record.event.kind for record in records] == STORY[::-1]
    ids = [record.id for record in records]
    assert ids == sorted(set(ids), reverse=True)


async def test_an_event_comes_back_as_it_was_written(world: World) -> None:
    event = AuditEvent(
        kind="run.refused",
        actor="daemon",
        alert=None,
        run=None,
        policy="p",
        target="db:x",
        reason="budget",
        observed="4 in 1h",
        allowed="3 per 1h",
        data={"deep": {"list": [1, 2.5, None, "ä"]}},
    )
    await world.store.record((event,))
    [record] = await world.store.audit()
    assert (record.at, record.event, record.source) == (START, event, "audit_event")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ({"kind": "alert.accepted"}, ["alert.accepted"] * 3),
        ({"kind": "run.created"}, ["run.created"]),
        ({"kind": "none.such"}, []),
        ({"run": 1}, ["run.created", "run.admitted"]),
        ({"policy": "p"}, ["run.created"]),
        ({"target": "db:orders"}, ["run.created"]),
        ({"target": "db:other"}, []),
        ({"alert": 1}, ["alert.accepted", "alert.resolved"]),
        ({"alert": 2}, ["alert.accepted", "alert.updated"]),
        ({"alert": 3}, ["alert.accepted", "run.created"]),
        ({"alert": 1, "kind": "alert.resolved"}, ["alert.resolved"]),
        ({"alert": 99}, []),
        ({"since": START + 2 * SECOND}, STORY[4:]),
        ({"until": START + SECOND}, STORY[:2]),
        ({"since": START + SECOND, "until": START + 2 * SECOND}, STORY[2:4]),
    ],
)
async def test_filters(world: World, search: dict[str, Any], found: list[str]) -> None:
    await story(world)
    assert await world.kinds(**search) == found
    newest_first = await world.store.audit(limit=100, **search)
    assert [record.event.kind for record in newest_first] == found[::-1]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("search", [{}, {"alert": 2}, {"kind": "alert.accepted"}])
async def test_pages_miss_nothing_and_repeat_nothing(
    world: World, size: int, oldest_first: bool, search: dict[str, Any]
) -> None:
    await story(world)
    whole = await world.store.audit(limit=100, oldest_first=oldest_first, **search)
    pages: list[Any] = []
    cursor = None
    while page := await world.store.audit(before=cursor, limit=size, oldest_first=oldest_first, **search):
        assert len(page) <= size
        pages += page
        cursor = page[-1].id
    assert pages == list(whole)


async def test_a_delivery_says_where_its_alert_stands(world: World) -> None:
    ids = await story(world)
    record = (await world.store.audit(alert=ids[1], oldest_first=True, limit=1))[0]
    assert (record.source, record.event.actor, record.event.alert) == ("alert_event", "sender:am", ids[1])
    assert record.event.data["policy_revision"] == "set-1"
    assert record.event.data["position"] == 1


# ---------------------------------------------------------------- sealing


async def test_sealing_covers_events_and_deliveries(world: World) -> None:
    assert await world.store.seal() == ""
    await story(world)
    before = await world.store.verify()
    assert (before.sealed, before.unsealed, before.whole) == (0, 6, True)
    head = await world.store.seal()
    assert len(head) == 64
    after = await world.store.verify(head)
    assert (after.sealed, after.unsealed, after.head, after.whole) == (6, 0, head, True)


async def test_sealing_again_adds_only_what_is_new(world: World) -> None:
    await story(world)
    first = await world.store.seal()
    assert await world.store.seal() == first
    await world.store.record((AuditEvent(kind="audit.read"),))
    second = await world.store.seal()
    assert second != first
    for head in (first, second):
        report = await world.store.verify(head)
        assert (report.sealed, report.whole) == (7, True)


async def test_a_head_that_never_was_is_not_found(world: World) -> None:
    await story(world)
    await world.store.seal()
    report = await world.store.verify("ab" * 32)
    assert not report.head_found
    assert not report.whole


async def test_the_chain_goes_on_after_a_restart(world: World) -> None:
    await story(world)
    first = await world.store.seal()
    await world.reopen()
    await world.deliver(alert("z", at=world.now))
    await world.store.seal()
    report = await world.store.verify(first)
    assert report.whole
    assert report.sealed == 7


# ---------------------------------------------------------------- retention

ALL = ("alert", "alert_event", "run", "effect", "outbox", "audit_event", "policy_revision", "rejected")


def keep(span: int) -> dict[str, Millis]:
    return dict.fromkeys(ALL, Millis(span))


async def test_only_what_has_ended_and_is_old_is_pruned(world: World) -> None:
    await world.activate()
    run = await world.start("a")
    await world.deliver(alert("gone"), alert("gone", Status.RESOLVED), alert("open"))
    await world.store.seal()
    world.later(40 * DAY)
    await world.store.prune({})  # the counts of new episodes, which are always kept for a day only
    assert (await world.store.prune(keep(50 * DAY))) == {}
    await world.store.prune(keep(DAY))
    assert [one.alert.fingerprint for one in await world.store.find_episodes()] == ["open", "a"]
    assert (await world.store.run(run.id)).open
    [run] = await world.store.claim("w", 1)
    await world.end(run)
    await world.deliver(alert("a", Status.RESOLVED), alert("open", Status.RESOLVED))
    await world.store.seal()
    world.later(40 * DAY)
    await world.store.prune(keep(DAY))
    await world.store.seal()
    await world.store.prune(keep(DAY))
    assert await world.store.find_runs() == []
    assert await world.store.find_episodes() == []


async def test_the_chain_stays_verifiable_through_retention(world: World) -> None:
    await story(world)
    head = await world.store.seal()
    for week in range(6):
        world.later(7 * DAY)
        await world.deliver(alert(f"w{week}", at=world.now), alert(f"w{week}", Status.RESOLVED, at=world.now))
        await world.store.record((AuditEvent(kind="audit.read", actor=str(week)),))
        await world.store.seal()
        await world.store.prune(keep(10 * DAY))
        head = await world.store.seal()
        report = await world.store.verify(head)
        assert report.whole, report
    assert "audit.pruned" in await world.kinds()
    # An alert that still fires keeps its own history.
    assert await world.kinds(alert=2) == ["alert.accepted", "alert.updated"]
    await world.reopen()
    assert (await world.store.verify(head)).whole


async def test_seals_go_with_their_records_and_the_chain_begins_later(world: World) -> None:
    heads = []
    for week in range(4):
        await world.deliver(alert(f"w{week}", at=world.now), alert(f"w{week}", Status.RESOLVED, at=world.now))
        await world.store.record((AuditEvent(kind="audit.read", actor=str(week)),))
        heads.append(await world.store.seal())
        world.later(7 * DAY)
    deleted = await world.store.prune(keep(10 * DAY))
    assert (deleted["alert_event"], deleted["audit_event"], deleted["audit_seal"]) == (3, 3, 3)
    head = await world.store.seal()
    for known in (heads[3], head):
        report = await world.store.verify(known)
        assert (report.whole, report.head) == (True, head)
    assert not (await world.store.verify(heads[0])).head_found  # its end of the chain is gone


async def test_unsealed_records_are_never_pruned(world: World) -> None:
    await story(world)
    world.later(90 * DAY)
    await world.store.prune({})
    deleted = await world.store.prune({"audit_event": Millis(DAY), "alert_event": Millis(DAY)})
    assert deleted == {}
    assert len(await world.store.audit()) == len(STORY)


async def test_ids_are_not_used_again_after_pruning_and_restart(world: World) -> None:
    first = await world.deliver(alert("a"), alert("a", Status.RESOLVED))
    await world.store.seal()
    world.later(2 * HOUR)
    await world.store.prune({"alert": Millis(MINUTE), "alert_event": Millis(MINUTE)})
    assert await world.store.find_episodes() == []
    await world.reopen()
    second = await world.deliver(alert("a", at=world.now))
    assert second.alerts[0] > first.alerts[0]


async def test_a_pruned_alert_is_new_when_it_comes_again(world: World) -> None:
    await world.deliver(alert("a"), alert("a", Status.RESOLVED))
    await world.store.seal()
    world.later(6 * MINUTE)
    await world.store.prune({"alert": Millis(MINUTE)})
    assert (await world.deliver(alert("a"))).accepted == 1


async def test_intents_are_kept_for_the_budgets(world: World) -> None:
    await world.activate()
    run = await world.end(await world.admitted(await world.start("a")), Outcome.SUCCEEDED)
    await world.store.seal()
    world.later(31 * DAY)
    assert "run" not in await world.store.prune({"run": Millis(DAY)})
    world.later(2 * DAY)
    assert (await world.store.prune({"run": Millis(DAY)}))["run"] == 1
    assert await world.store.intents(run.id) == []


async def test_a_policy_set_is_kept_while_anything_refers_to_it(world: World) -> None:
    await world.activate("set-1")
    await world.start("a")
    await world.activate("set-2")
    await world.activate("set-3")
    world.later(DAY)
    assert await world.store.prune({"policy_revision": Millis(HOUR)}) == {"policy_revision": 1}
    assert (await world.store.revision("set-1")).hash == "set-1"
    assert (await world.store.revision("set-3")).hash == "set-3"


async def test_an_unknown_table_has_no_retention(world: World) -> None:
    with pytest.raises(ConfigurationError, match="alerts"):
        await world.store.prune({"alerts": Millis(DAY)})


async def test_rejected_bodies_are_pruned_by_age(world: World) -> None:
    await world.store.reject("am", 400, (Bad(field="", message="m", body=b"x"),), ())
    world.later(DAY)
    await world.store.reject("am", 400, (Bad(field="", message="m", body=b"y"),), ())
    assert await world.store.prune({"rejected": Millis(HOUR)}) == {"rejected": 1}


async def test_the_time_of_an_event_is_the_stores(world: World) -> None:
    world.later(MINUTE)
    await world.store.record((AuditEvent(kind="audit.read"),))
    assert (await world.store.audit())[0].at == Instant(START + MINUTE)
