"""Brakes, leases and policy changes that meet a run at the worst moment."""

from __future__ import annotations

import msgspec

from remediator.contracts import Delivery, Parsed
from remediator.engine.openings import opening
from remediator.model import (
    HOUR,
    MINUTE,
    Alert,
    AuditEvent,
    Control,
    ControlKind,
    Origin,
    Outcome,
    Reason,
    State,
    Status,
)
from tests.engine.world import POLICY, START, Rig, World

BY_TOKEN = POLICY.replace("world.resize", "world.resize_by_token")


async def _pause(rig: Rig) -> None:
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="freeze", actor="alice", since=rig.clock.now())
    await rig.store.set_control(pause, AuditEvent(kind="control.paused", actor="alice"))


async def _start_by_hand(rig: Rig) -> None:
    """As `Daemon.start_run` does."""
    labels = {"alertname": "manual:queue", "severity": "P2", "group": "gpu"}
    alert = Alert(
        sender="am",
        fingerprint="by-hand",
        status=Status.FIRING,
        labels=labels,
        annotations={},
        starts_at=START,
    )
    active = rig.policies.current
    assert active is not None
    wanted = opening(active, rig.known, active.policies["queue"], alert, START, Origin.HAND)
    delivery = Delivery(
        sender="am",
        kind="told",
        body=msgspec.json.encode([alert]),
        parsed=Parsed(alerts=((alert, 1),)),
        revision=active.hash,
        received_at=START,
    )
    await rig.store.accept(delivery, lambda _alert, _now: (wanted,))


async def test_a_lost_call_is_not_issued_again_while_paused() -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.worker.drain()
        assert (await r.run()).state is State.UNKNOWN
        await _pause(r)
        await r.until(10 * MINUTE)
        run = await r.run()
        assert r.world.calls == []
        assert (run.state, run.reason) == (State.UNKNOWN, Reason.PAUSED)
        await r.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
        await r.until(12 * MINUTE)
        assert [after for _, after, _ in r.world.calls] == [5]
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_a_pause_longer_than_give_up_leaves_a_lost_call_to_a_person() -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.worker.drain()
        await _pause(r)
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.ESCALATED
        assert r.world.calls == []
        assert ControlKind.QUARANTINE in {control.kind for control in await r.store.controls()}


async def test_the_message_about_an_unknown_outcome_does_not_say_that_nothing_was_done() -> None:
    async with Rig(POLICY, world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.until(5 * MINUTE)
        (due,) = await r.called()
        assert "nothing was changed" not in due.body
        assert "Not known whether it was done: world.resize on world:gpu: size=3 → size=5" in due.body


async def test_a_lease_of_a_run_by_hand_comes_back_although_nobody_resolves_its_alert() -> None:
    policy = POLICY.rstrip() + "\n    expires: 1h\n"
    async with Rig(policy) as r:
        await _start_by_hand(r)
        await r.until(10 * MINUTE)
        assert r.world.sizes["gpu"] == 5
        await r.until(2 * HOUR)
        assert r.world.sizes["gpu"] == 3
        assert [(run.origin, run.outcome) for run in await r.runs()] == [
            (Origin.HAND, Outcome.SUCCEEDED),
            (Origin.LEASE, Outcome.REVERTED),
        ]


async def test_a_pause_holds_a_lost_call_also_where_the_policy_has_lost_its_licence_since() -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.worker.drain()
        broken = Control(
            kind=ControlKind.BREAKER,
            scope="policy:queue",
            reason="r",
            actor="daemon",
            since=START,
            data={"demote_to": "observe"},
        )
        await r.store.trip(broken, AuditEvent(kind="breaker.tripped"))
        await _pause(r)
        await r.until(10 * MINUTE)
        run = await r.run()
        assert r.world.calls == []
        assert (run.state, run.reason) == (State.UNKNOWN, Reason.PAUSED)


async def test_a_lost_call_is_held_by_a_pause_of_the_target_under_another_name() -> None:
    world = World(faults=["", "lost-before"], aliases={"gpu-alias": "gpu"})
    async with Rig(BY_TOKEN, world=world) as r:
        await r.fire(group="gpu-alias")
        await r.until(20 * MINUTE)
        await r.fire(since=r.clock.now())
        await r.worker.drain()
        assert (await r.runs())[1].state is State.UNKNOWN
        pause = Control(
            kind=ControlKind.PAUSE,
            scope="target:world:gpu-alias",
            reason="freeze",
            actor="alice",
            since=r.clock.now(),
        )
        await r.store.set_control(pause, AuditEvent(kind="control.paused", actor="alice"))
        await r.until(40 * MINUTE)
        assert [after for _, after, _ in r.world.calls] == [5]
        assert (await r.runs())[1].reason is Reason.PAUSED
