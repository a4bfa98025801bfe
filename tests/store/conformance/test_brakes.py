"""Windows, storms, breakers and flapping as ADMIT and the ends of runs know them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from remediator.contracts import Breaker, Flapping, Held, Slot, Surge
from remediator.errors import PayloadError
from remediator.model import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Budget,
    Control,
    ControlKind,
    Instant,
    IntentKind,
    Message,
    Millis,
    Mode,
    Outcome,
    Reason,
    Run,
    Severity,
)
from tests.store.world import START, World, alert

MESSAGE = Message(chain="on-call", severity=Severity.P2, subject="s", body="b")
SURGE = Surge(sender="am", new_alerts=5, within=Millis(MINUTE))


def storm(until: int, sender: str = "am") -> Control:
    return Control(
        kind=ControlKind.STORM,
        scope=f"sender:{sender}",
        reason="5 new alerts",
        actor="daemon",
        since=START,
        until=Instant(until),
    )


def breaker(policy: str = "p", ineffective: int = 3, demote_to: str = "observe") -> Breaker:
    return Breaker(
        ineffective=ineffective,
        control=Control(
            kind=ControlKind.BREAKER,
            scope=f"policy:{policy}",
            reason=f"{ineffective} runs in a row did not heal",
            actor="daemon",
            since=START,
            data={"demote_to": demote_to},
        ),
        event=AuditEvent(kind="breaker.tripped", policy=policy),
        messages=(MESSAGE,),
    )


async def asked(world: World, run: Run, **more: Any) -> Run | Held:
    await world.activate()
    return await world.store.admit(run, msgspec.structs.replace(world.admission(run), **more))


async def kinds_on(world: World) -> list[ControlKind]:
    return [control.kind for control in await world.store.controls()]


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize(
    ("since", "until", "held"),
    [(None, None, False), (-1, 1, False), (0, 1, False), (-10, 0, True), (1, 10, True), (None, -1, True)],
)
async def test_admit_compares_the_slot_with_its_own_clock(
    world: World, since: int | None, until: int | None, held: bool
) -> None:
    slot = Slot(
        since=None if since is None else Instant(START + since),
        until=None if until is None else Instant(START + until),
        then="patching",
    )
    run = await world.start()
    answer = await asked(world, run, slot=slot)
    assert isinstance(answer, Held) is held
    if isinstance(answer, Held):
        assert answer.reason is Reason.WINDOW
        assert "patching" in answer.observed
        assert await world.store.intents(run.id) == []


async def test_steps_and_reverts_are_not_held_by_windows_and_storms(world: World) -> None:
    over = Slot(until=Instant(START))
    await world.store.trip(storm(START + HOUR), AuditEvent(kind="storm.tripped"))
    for kind, counted in ((IntentKind.APPLY, False), (IntentKind.REVERT, True), (IntentKind.RETURN, True)):
        run = await world.start(f"{kind}-{counted}")
        await world.activate()
        wanted = world.admission(run, kind=kind, counted=counted)
        answer = await world.store.admit(run, msgspec.structs.replace(wanted, slot=over, storm=SURGE))
        assert not isinstance(answer, Held), answer


# ---------------------------------------------------------------- storms


async def test_new_episodes_are_counted_by_sender_and_second(world: World) -> None:
    await world.deliver(*(alert(f"a{i}") for i in range(3)))
    await world.deliver(alert("a0"))  # a repeat
    await world.deliver(alert("b0", sender="other"), sender="other")
    world.later(700)
    await world.deliver(alert("a3", at=world.now))
    world.later(700)
    await world.deliver(alert("a4", at=world.now), alert("a0", at=world.now))  # a0: another start, updated
    found = [(one.sender, one.at, one.count) for one in await world.store.arrivals(Instant(0))]
    assert found == [("am", START, 4), ("am", START + SECOND, 1), ("other", START, 1)]
    assert [one.sender for one in await world.store.arrivals(Instant(0), "other")] == ["other"]
    assert [one.at for one in await world.store.arrivals(START, "am")] == [START + SECOND]
    await world.reopen()
    assert len(await world.store.arrivals(Instant(0))) == 3


async def test_a_delivery_that_cannot_be_stored_is_not_counted(world: World) -> None:
    with pytest.raises(PayloadError):
        await world.deliver(alert("a0"), alert("bad", at=1 << 65))
    await world.deliver(alert("a1"))
    assert [one.count for one in await world.store.arrivals(Instant(0))] == [1]


async def test_admit_counts_the_storm_itself(world: World) -> None:
    run = await world.start("first")
    await world.deliver(*(alert(f"a{i}") for i in range(3)))
    assert not isinstance(await asked(world, run, storm=SURGE), Held)
    second = await world.start("fifth")
    answer = await asked(world, second, storm=SURGE)
    assert isinstance(answer, Held)
    assert (answer.reason, answer.observed) == (Reason.STORM, "5 new alerts of am within 1m")
    other = msgspec.structs.replace(SURGE, sender="other")
    assert not isinstance(await asked(world, second, storm=other), Held)


async def test_a_storm_that_is_known_holds_its_sender_only_and_ends(world: World) -> None:
    until = Instant(START + 15 * MINUTE)
    await world.store.trip(storm(until), AuditEvent(kind="storm.tripped"))
    run = await world.start()
    answer = await asked(world, run, storm=SURGE)
    assert isinstance(answer, Held)
    assert (answer.reason, answer.until) == (Reason.STORM, until)
    other = msgspec.structs.replace(SURGE, sender="other")
    assert not isinstance(await asked(world, run, storm=other), Held)
    second = await world.start("b")
    world.later(15 * MINUTE)
    assert not isinstance(await asked(world, second, storm=SURGE), Held)


async def test_a_brake_that_trips_again_lasts_longer_and_tells_nobody(world: World) -> None:
    event = AuditEvent(kind="storm.tripped")
    assert await world.store.trip(storm(START + 10 * MINUTE), event, (MESSAGE,)) is True
    assert await world.store.trip(storm(START + 20 * MINUTE), event, (MESSAGE,)) is False
    assert await world.store.trip(storm(START + 5 * MINUTE), event, (MESSAGE,)) is False
    (control,) = await world.store.controls()
    assert control.until == START + 20 * MINUTE
    assert len(await world.store.due_messages(10)) == 1
    assert await world.kinds(kind="storm.tripped") == ["storm.tripped"]
    world.later(20 * MINUTE)
    assert await world.store.trip(storm(START + HOUR), event, (MESSAGE,)) is True


async def test_counts_are_pruned_once_no_storm_looks_back_on_them(world: World) -> None:
    await world.deliver(alert("a0"))
    world.later(25 * HOUR)
    await world.store.prune({})
    assert len(await world.store.arrivals(Instant(0))) == 1
    world.later(2 * HOUR)
    await world.store.prune({})
    assert await world.store.arrivals(Instant(0)) == []


# ---------------------------------------------------------------- breakers


async def ended(world: World, outcome: Outcome, policy: str = "p", **more: Any) -> None:
    world.later(1)
    run = await world.start(f"{policy}{world.now}", policy=policy)
    if outcome in (Outcome.REVERTED, Outcome.ESCALATED):
        more.setdefault("breaker", breaker(policy))
    await world.end(run, outcome, **more)


async def test_the_breaker_opens_with_the_last_of_n_ineffective_runs(world: World) -> None:
    await ended(world, Outcome.ESCALATED)
    await ended(world, Outcome.REVERTED)
    assert await kinds_on(world) == []
    await ended(world, Outcome.ESCALATED)
    assert await kinds_on(world) == [ControlKind.BREAKER]
    assert await world.kinds(kind="breaker.tripped") == ["breaker.tripped"]
    assert [one.message for one in await world.store.due_messages(10)] == [MESSAGE]
    await ended(world, Outcome.ESCALATED)
    assert await world.kinds(kind="breaker.tripped") == ["breaker.tripped"], "told once"


async def test_a_success_resets_and_refusals_count_for_nothing(world: World) -> None:
    await ended(world, Outcome.ESCALATED)
    await ended(world, Outcome.ESCALATED)
    await ended(world, Outcome.SUCCEEDED)
    await ended(world, Outcome.ESCALATED)
    for outcome in (Outcome.REFUSED, Outcome.CANCELLED, Outcome.OBSERVED, Outcome.NOTHING_TO_DO):
        await ended(world, outcome)
    await ended(world, Outcome.ESCALATED)
    await ended(world, Outcome.ESCALATED, policy="other")
    assert await kinds_on(world) == []
    await ended(world, Outcome.REVERTED)
    assert [control.scope for control in await world.store.controls()] == ["policy:p"]


async def test_a_restored_policy_begins_anew(world: World) -> None:
    for _ in range(3):
        await ended(world, Outcome.ESCALATED)
    world.later(1)
    event = AuditEvent(kind="policy.restored", policy="p")
    assert await world.store.clear_control(ControlKind.BREAKER, "policy:p", event)
    assert not await world.store.clear_control(ControlKind.BREAKER, "policy:p", event)
    await ended(world, Outcome.ESCALATED)
    await ended(world, Outcome.ESCALATED)
    assert await kinds_on(world) == []
    await ended(world, Outcome.ESCALATED)
    assert await kinds_on(world) == [ControlKind.BREAKER]


@pytest.mark.parametrize(
    ("demote_to", "mode", "begun", "held"),
    [
        ("observe", Mode.ENFORCE, False, True),
        ("observe", Mode.APPROVE, False, True),
        ("approve", Mode.ENFORCE, False, True),
        ("approve", Mode.APPROVE, False, False),
        ("observe", Mode.ENFORCE, True, False),
    ],
)
async def test_admit_asks_the_breaker_again(
    world: World, demote_to: str, mode: Mode, begun: bool, held: bool
) -> None:
    run = await world.start()
    await world.store.trip(breaker(demote_to=demote_to).control, AuditEvent(kind="breaker.tripped"))
    answer = await asked(world, run, mode=mode, begun=begun)
    assert (isinstance(answer, Held) and answer.reason is Reason.BREAKER) is held
    if mode is Mode.APPROVE and not held:  # and then a person must have approved
        assert isinstance(answer, Held)
        assert answer.reason is Reason.APPROVAL_PENDING


# ---------------------------------------------------------------- flapping


FLAPPING = Flapping(budget=Budget(count=2, window=Millis(HOUR)), sender="am", fingerprint="f")


async def test_who_heals_one_target_too_often_is_held(world: World) -> None:
    for name in ("a", "b"):
        run = await world.start(name, target="db:x")
        await world.admitted(await _active(world, run), key="k:x")
        await world.end(await world.store.run(run.id))
        world.later(MINUTE)
    run = await world.start("c", target="db:x")
    assert await world.store.healed(run, FLAPPING) == 2
    answer = await asked(world, run, flapping=FLAPPING)
    assert isinstance(answer, Held)
    assert answer.reason is Reason.FLAPPING
    assert "2 times within 1h" in answer.observed
    assert "2 per 1h" in answer.allowed
    assert not isinstance(await asked(world, run, flapping=FLAPPING, begun=True), Held)


async def test_flapping_is_known_by_the_targets_identity_and_by_the_alert(world: World) -> None:
    run = await world.start("a", target="db:alias")
    await world.admitted(await _active(world, run), key="k:x")
    await world.end(await world.store.run(run.id))
    once = msgspec.structs.replace(FLAPPING, budget=Budget(count=1, window=Millis(HOUR)))
    same_key = await world.start("b", target="db:x")
    assert await world.store.healed(same_key, once) == 0  # its identity is not known yet
    answer = await world.store.admit(
        same_key, msgspec.structs.replace(world.admission(same_key, key="k:x"), flapping=once)
    )
    assert isinstance(answer, Held)
    elsewhere = await world.start("c", target="db:y")
    assert await world.store.healed(elsewhere, msgspec.structs.replace(once, fingerprint="a")) == 1
    assert (
        await world.store.healed(elsewhere, msgspec.structs.replace(once, fingerprint="a", sender="b")) == 0
    )
    other = await world.start("d", policy="other", target="db:alias")
    assert await world.store.healed(other, once) == 0
    world.later(HOUR + 1)
    again = await world.start("e", target="db:alias")
    assert await world.store.healed(again, once) == 0


async def test_what_heals_elsewhere_is_no_flapping(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.end(await world.start(name, target=f"db:{name}"))
    run = await world.start("d", target="db:c")
    assert await world.store.healed(run, FLAPPING) < 2
    assert not isinstance(await asked(world, run, flapping=FLAPPING), Held)


async def _active(world: World, run: Run) -> Run:
    await world.activate()
    return run


# ---------------------------------------------------------------- names


async def test_a_target_is_known_by_every_name_that_acted_on_it(world: World) -> None:
    await world.activate()
    for name in ("a", "b"):
        run = await world.start(name, target=f"db:{name}")
        await world.admitted(run, key="k:x")
        await world.end(await world.store.run(run.id))
        world.later(DAY)
    assert await world.store.names("k:x") == ["db:a", "db:b"]
    assert await world.store.names("k:y") == []
    assert {"k:x", "db:a", "db:b"} <= set(await world.store.targets())
    assert "db:none" not in await world.store.targets()


async def test_a_target_is_paused_under_each_of_its_names(world: World) -> None:
    await world.activate()
    run = await world.start("a", target="db:a")
    await world.admitted(run, key="k:x")
    await world.end(await world.store.run(run.id))
    pause = Control(kind=ControlKind.PAUSE, scope="target:db:a", reason="r", actor="alice", since=START)
    await world.store.set_control(pause, AuditEvent(kind="control.paused"))
    other = await world.start("b", target="db:alias")
    held = await world.held(other, key="k:x")
    assert (held.reason, "target:db:a" in held.observed) == (Reason.PAUSED, True)
    await world.admitted(other, key="k:y")


# ---------------------------------------------------------------- said once


async def test_what_was_said_is_not_said_again(world: World) -> None:
    keep = Instant(START + 60 * DAY)
    event = AuditEvent(kind="window.announced")
    assert await world.store.once("window:a:begin", keep, (event,), (MESSAGE,)) is True
    assert await world.store.once("window:a:begin", keep, (event,), (MESSAGE,)) is False
    assert await world.store.said(["window:a:begin", "window:b:begin"]) == {"window:a:begin"}
    assert len(await world.store.due_messages(10)) == 1
    assert await world.kinds(kind="window.announced") == ["window.announced"]
    world.later(60 * DAY + 1)
    assert await world.store.once("window:b:begin", Instant(world.now + DAY), (event,))
    assert await world.store.said(["window:a:begin", "window:b:begin"]) == {"window:b:begin"}
    assert await world.store.active_revision() is None
