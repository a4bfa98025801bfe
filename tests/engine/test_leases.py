"""What a person may do about a lease, and what becomes of one that another run lends anew."""

from __future__ import annotations

import pytest

from remediator.engine import lease
from remediator.engine.case import Tools
from remediator.engine.worker import Worker
from remediator.errors import Conflict, NotFound
from remediator.model import (
    DAY,
    HOUR,
    LEFT_TO_PERSON,
    MINUTE,
    AuditEvent,
    Control,
    ControlKind,
    Effect,
    Instant,
    Millis,
    Origin,
    Outcome,
    Reason,
    Run,
)
from tests.engine.world import START, Rig

LEASED = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: world.resize
    with: {group: gpu, add: 2, max: 10}
    expires: 2h
limits: {cooldown: 0s, per_target: [10 per 1h], budget: [10 per 1h]}
"""
PAUSE = Control(kind=ControlKind.PAUSE, scope="", reason="drill", actor="alice", since=START)
RESUMED = AuditEvent(kind="control.resumed", actor="alice")


async def lent(r: Rig, after: int = MINUTE) -> Effect:
    """Fire, and look some time later."""
    await r.fire()
    await r.until(after)
    (effect,) = await r.store.effects()
    return effect


async def renew(r: Rig, id: int, longer: int) -> Effect:
    return await lease.renew(r.store, r.policies.revision, id, Millis(longer), "still needed", "alice")


async def recall(r: Rig, id: int) -> Run:
    return await lease.recall(r.store, id, "seen enough", "alice")


async def returns(r: Rig) -> list[Run]:
    return [run for run in await r.runs() if run.origin is Origin.LEASE]


async def test_renewed_it_comes_back_at_its_new_end() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r, 90 * MINUTE)
        await r.resolve()
        renewed = await renew(r, effect.id, HOUR)
        assert renewed.expires_at == START + 150 * MINUTE
        assert (renewed.renewals, renewed.renewed_by, renewed.renewed_at) == (1, "alice", r.clock.now())
        await r.until(149 * MINUTE)
        assert r.world.sizes["gpu"] == 5
        await r.until(151 * MINUTE)
        assert r.world.sizes["gpu"] == 3
        (said,) = await r.store.audit(kind="effect.renewed")
        assert (said.event.actor, said.event.target, said.event.run) == ("alice", "world:gpu", effect.run)
        assert said.event.data["reason"] == "still needed"


async def test_renewed_for_no_longer_than_its_policy_lends_for() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        with pytest.raises(Conflict, match="2h1m is longer than policy queue lends it for; at most 2h"):
            await renew(r, effect.id, 2 * HOUR + MINUTE)
        with pytest.raises(Conflict, match="remediator effects return"):  # shorter is not longer
            await renew(r, effect.id, HOUR)
        with pytest.raises(NotFound):
            await renew(r, 77, HOUR)
        assert (await r.store.effect(effect.id)).expires_at == effect.expires_at
        assert await r.store.audit(kind="effect.renewed") == []


async def test_renewed_again_and_again_it_ends_after_seven_days() -> None:
    async with Rig(LEASED.replace("2h", "3d")) as r:
        effect = await lent(r)
        await r.resolve()
        for day in (2, 4):
            await r.until(day * DAY)
            await renew(r, effect.id, 3 * DAY)
        await r.until(5 * DAY)
        with pytest.raises(Conflict, match="at most 7d"):
            await renew(r, effect.id, 3 * DAY)
        await r.until(7 * DAY + MINUTE)
        assert r.world.sizes["gpu"] == 3


async def test_nothing_is_renewed_that_is_over_or_on_its_way_back() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        await r.resolve()
        await r.store.set_control(PAUSE, AuditEvent(kind="control.paused"))
        await r.until(2 * HOUR + MINUTE)
        (back,) = await returns(r)
        assert (back.outcome, back.reason) == (None, Reason.PAUSED)
        with pytest.raises(Conflict, match=f"being returned by run {back.id}"):
            await renew(r, effect.id, HOUR)
        with pytest.raises(Conflict, match=f"being returned by run {back.id}"):
            await recall(r, effect.id)
        await r.store.clear_control(ControlKind.PAUSE, "", RESUMED)
        await r.until(3 * HOUR)
        assert r.world.sizes["gpu"] == 3
        with pytest.raises(Conflict, match="over already: returned"):
            await renew(r, effect.id, HOUR)
        with pytest.raises(Conflict, match="over already: returned"):
            await recall(r, effect.id)


async def test_recalled_it_goes_back_at_once_also_while_the_alert_fires() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        await recall(r, effect.id)
        await r.until(2 * MINUTE)
        assert r.world.sizes["gpu"] == 3
        (back,) = await returns(r)
        assert (back.outcome, back.reason) == (Outcome.REVERTED, Reason.RETURNED_BY_PERSON)
        (said,) = await r.store.audit(kind="effect.recalled")
        assert (said.event.actor, said.event.data["reason"]) == ("alice", "seen enough")
        opened = [e.event for e in await r.events(back.id) if e.event.kind == "run.created"]
        assert [(one.actor, one.reason) for one in opened] == [("alice", "returned_by_person")]
        await r.until(3 * HOUR)
        assert len(await returns(r)) == 1
        assert list(await r.called()) == []


async def test_a_pause_holds_what_is_recalled() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        await r.store.set_control(PAUSE, AuditEvent(kind="control.paused"))
        await recall(r, effect.id)
        await r.until(10 * MINUTE)
        assert r.world.sizes["gpu"] == 5
        await r.store.clear_control(ControlKind.PAUSE, "", RESUMED)
        await r.until(12 * MINUTE)
        assert r.world.sizes["gpu"] == 3


async def test_a_quarantine_leaves_what_is_recalled_to_a_person() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        brake = Control(
            kind=ControlKind.QUARANTINE, scope="target:world/earth/gpu", reason="?", actor="d", since=START
        )
        await r.store.set_control(brake, AuditEvent(kind="target.quarantined"))
        await recall(r, effect.id)
        await r.until(2 * MINUTE)
        (back,) = await returns(r)
        assert (back.outcome, back.reason) == (Outcome.ESCALATED, Reason.QUARANTINED)
        assert r.world.sizes["gpu"] == 5
        assert (await r.store.effect(effect.id)).outcome == LEFT_TO_PERSON


async def test_what_was_left_to_a_person_goes_back_by_recall() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        await r.until(5 * HOUR)
        assert (await r.store.effect(effect.id)).outcome == LEFT_TO_PERSON
        (message,) = await r.called()
        assert f"remediator effects return {effect.id}" in message.body
        await recall(r, effect.id)
        await r.until(5 * HOUR + MINUTE)
        assert r.world.sizes["gpu"] == 3
        assert (await r.store.effect(effect.id)).outcome == "returned"


async def test_a_second_try_is_not_taken_for_the_first_by_the_provider() -> None:
    text = LEASED.replace("world.resize", "world.resize_by_token")
    async with Rig(text) as r:
        effect = await lent(r)
        await r.resolve()
        r.world.faults.append("deny")
        await r.until(3 * HOUR)
        (failed,) = await returns(r)
        assert failed.outcome is Outcome.ESCALATED
        again = await recall(r, effect.id)
        await r.until(4 * HOUR)
        assert r.world.sizes["gpu"] == 3
        tokens = [intent.token for id in (failed.id, again.id) for intent in await r.store.intents(id)]
        assert len(set(tokens)) == 2


async def test_what_is_lent_anew_is_not_recalled_past_the_newer_lease() -> None:
    async with Rig(LEASED) as r:
        effect = await lent(r)
        await r.until(5 * HOUR)
        await r.resolve()
        await r.fire(pod="b")
        await r.until(5 * HOUR + MINUTE)
        (newer,) = await r.store.effects()
        with pytest.raises(Conflict, match=f"lent anew since, as effect {newer.id}"):
            await recall(r, effect.id)


async def test_another_run_that_lends_anew_between_look_and_admit_ends_the_return() -> None:
    """The return has seen 5 and wants 3; before its ADMIT another run makes it 7 and inherits the 3."""
    async with Rig(LEASED) as r:
        await lent(r)
        await r.resolve()
        other = Worker("other", Tools(r.store, r.known, r.worker._tools.execute), r.policies)

        async def meanwhile() -> None:
            await r.fire(pod="b")
            await other.drain()

        r.link.before_admit = meanwhile
        await r.until(2 * HOUR + MINUTE)
        (back,) = await returns(r)
        assert (back.outcome, back.reason) == (Outcome.NOTHING_TO_DO, Reason.LEASE_CLOSED)
        assert await r.store.intents(back.id) == []
        assert r.world.sizes["gpu"] == 7
        (effect,) = await r.store.effects()
        assert (effect.prior, effect.current) == (3, 7)
        await r.resolve(pod="b")
        await r.until(5 * HOUR)
        assert r.world.sizes["gpu"] == 3


TWO_FIELDS = LEASED.replace("world.resize\n", "world.reshape\n")


async def test_what_one_call_lent_is_renewed_and_returned_together() -> None:
    async with Rig(TWO_FIELDS) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        size, weight = await r.store.effects()
        await renew(r, size.id, 2 * HOUR)
        assert {one.expires_at for one in await r.store.effects()} == {START + 3 * HOUR}
        assert (await r.store.effect(weight.id)).renewed_by == "alice"
        await recall(r, weight.id)
        await r.until(2 * HOUR)
        assert (r.world.sizes["gpu"], r.world.weights["gpu"]) == (3, 10)
        assert len(await returns(r)) == 1


async def test_two_fields_that_run_out_open_one_return() -> None:
    async with Rig(TWO_FIELDS) as r:
        await r.fire()
        await r.until(5 * HOUR)  # extended once, then left: both of them each time
        assert [run.reason for run in await returns(r)] == [
            Reason.LEASE_EXTENDED,
            Reason.LEASE_STILL_NEEDED,
        ]
        assert {one.outcome for one in await r.store.effects(open=False)} == {LEFT_TO_PERSON}
        assert len(await r.called()) == 1


async def test_a_lease_outlives_what_a_former_version_did_not_write() -> None:
    """Without `lent_at` the seven days count from when the lender's run was opened."""
    async with Rig(LEASED.replace("2h", "6d")) as r:
        effect = await lent(r)
        r.store._tx.run("UPDATE effect SET lent_at = NULL")  # type: ignore[attr-defined]
        await r.until(4 * DAY)
        with pytest.raises(Conflict, match="at most 7d"):
            await renew(r, effect.id, 4 * DAY)
        assert (await renew(r, effect.id, 3 * DAY)).expires_at == Instant(START + 7 * DAY)
