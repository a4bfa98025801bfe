"""ADMIT: every reason it can hold a run for, that a refusal writes nothing, and what it writes."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.contracts import IntentUpdate
from remediator.errors import Braked, Conflict
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    IntentKind,
    IntentOutcome,
    Outcome,
    Reason,
    State,
    Status,
)
from tests.store.world import START, World, alert, limit


@pytest.fixture
async def armed(world: World) -> World:
    await world.activate()
    return world


async def brake(world: World, kind: ControlKind, scope: str, until: int | None = None) -> None:
    control = Control(
        kind=kind,
        scope=scope,
        reason="drill",
        actor="alice",
        since=world.now,
        until=None if until is None else Instant(until),
    )
    await world.store.set_control(control, AuditEvent(kind="control.paused", actor="alice"))


async def test_it_writes_intent_lock_state_and_audit(armed: World) -> None:
    run = await armed.start("a")
    admission = armed.admission(run, 1, "k")
    admitted = await armed.store.admit(run, admission)
    assert admitted == await armed.store.run(run.id)
    assert (admitted.state, admitted.target_key, admitted.progress.number) == (State.ACTING, "k", 1)
    assert await armed.store.intents(run.id) == [admission.intent]
    assert await armed.store.locks() == {"k": run.id}
    assert await armed.kinds(run=run.id) == ["run.created", "run.admitted"]


async def test_the_time_of_an_intent_is_the_stores(armed: World) -> None:
    run = await armed.start("a")
    admission = armed.admission(run)
    armed.later(SECOND)
    await armed.store.admit(run, admission)
    [intent] = await armed.store.intents(run.id)
    assert intent.created_at == START + SECOND


async def test_changed_policies(armed: World) -> None:
    run = await armed.start("a")
    await armed.activate("set-2")
    held = await armed.held(run)
    assert held.reason is Reason.POLICIES_CHANGED
    assert "set-2" in held.observed
    assert "set-1" in held.allowed


@pytest.mark.parametrize(
    ("kind", "scope", "reason"),
    [
        (ControlKind.PAUSE, "", Reason.PAUSED),
        (ControlKind.PAUSE, "policy:p", Reason.PAUSED),
        (ControlKind.PAUSE, "target:k", Reason.PAUSED),
        (ControlKind.PAUSE, "target:db:a", Reason.PAUSED),
        (ControlKind.BREAKER, "policy:p", Reason.BREAKER),
        (ControlKind.QUARANTINE, "target:k", Reason.QUARANTINED),
        (ControlKind.QUARANTINE, "target:db:a", Reason.QUARANTINED),
    ],
)
async def test_brakes(armed: World, kind: ControlKind, scope: str, reason: Reason) -> None:
    run = await armed.start("a")
    await brake(armed, kind, scope, until=START + MINUTE)
    held = await armed.held(run, key="k")
    assert (held.reason, held.until) == (reason, START + MINUTE)
    assert held.observed == f"{scope or 'the daemon'}: drill (by alice)"
    armed.later(MINUTE)  # at its `until` it is off; the claim must not run out meanwhile
    [run] = await armed.store.claim("w", 1)
    await armed.admitted(run, key="k")


@pytest.mark.parametrize("scope", ["policy:other", "target:other", "policy:k", "target:p"])
async def test_brakes_of_others_do_not_hold(armed: World, scope: str) -> None:
    run = await armed.start("a")
    await brake(armed, ControlKind.PAUSE, scope)
    await brake(armed, ControlKind.QUARANTINE, scope)
    await armed.admitted(run, key="k")


async def test_a_resolved_alert(armed: World) -> None:
    run = await armed.start("a")
    await armed.deliver(alert("a", Status.RESOLVED, at=START))
    assert (await armed.held(run, need_firing=True)).reason is Reason.ALERT_RESOLVED
    await armed.admitted(run)


async def test_one_attached_alert_that_fires_is_enough(armed: World) -> None:
    run = await armed.start("a", target="db:orders")
    await armed.deliver(alert("a", Status.RESOLVED, at=START))
    from tests.store.world import opening

    armed.openings = lambda one: (opening(),)
    await armed.deliver(alert("b"))
    await armed.admitted(run, need_firing=True)


@pytest.mark.parametrize("scope", ["global", "policy", "target"])
async def test_budgets(armed: World, scope: str) -> None:
    for name in "ab":
        run = await armed.admitted(await armed.start(name, target=f"db:{name}"), key="k")
        await armed.end(run)
        armed.later(10 * MINUTE)
    run = await armed.start("c", target="db:c")
    held = await armed.held(run, 1, limit(scope, 2), key="k")
    assert (held.reason, held.observed) == (Reason.BUDGET, "2 in 1h")
    assert held.allowed == f"2 per 1h ({scope}: test {scope})"
    assert held.until == START + HOUR  # when the oldest leaves the window
    await armed.admitted(run, key="k")  # no limit, no refusal


async def test_a_window_is_half_open(armed: World) -> None:
    await armed.end(await armed.admitted(await armed.start("a"), key="k"))
    armed.later(HOUR - 1)
    run = await armed.start("b")
    held = await armed.held(run, 1, limit("target", 1), key="k")
    assert held.until == START + HOUR
    armed.later(1)
    admission = armed.admission(run, 1, "k", limit("target", 1))
    assert not isinstance(await armed.store.admit(run, admission), type(held))


async def test_until_is_when_enough_have_left_the_window(armed: World) -> None:
    for name in "abc":
        await armed.end(await armed.admitted(await armed.start(name), key="k"))
        armed.later(MINUTE)
    run = await armed.start("d")
    held = await armed.held(run, 1, limit("global", 2), key="k")
    assert (held.observed, held.until) == ("3 in 1h", START + MINUTE + HOUR)


async def test_a_budget_of_none_never_admits(armed: World) -> None:
    held = await armed.held(await armed.start("a"), 1, limit("global", 0))
    assert (held.reason, held.observed, held.until) == (Reason.BUDGET, "0 in 1h", None)


async def test_other_policies_and_targets_do_not_use_a_budget_up(armed: World) -> None:
    await armed.end(await armed.admitted(await armed.start("a", policy="q"), key="other"))
    run = await armed.start("b", policy="p")
    answer = await armed.store.admit(
        run, armed.admission(run, 1, "k", limit("policy", 1), limit("target", 1))
    )
    assert not hasattr(answer, "until")


async def test_what_was_not_applied_or_not_counted_leaves_the_budgets(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    undone = IntentUpdate(number=1, outcome=IntentOutcome.NOT_APPLIED)
    run = await armed.move(run, State.GUARD, intents=(undone,))
    [run] = await armed.store.claim("w", 1)
    run = await armed.admitted(run, 2, key="k", counted=False)
    await armed.end(run)
    armed.later(1)
    other = await armed.start("b")
    await armed.admit(other, 1, limit("global", 1), key="k2")
    assert len(await armed.store.intents(other.id)) == 1


async def test_an_unknown_outcome_counts(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    unknown = IntentUpdate(number=1, outcome=IntentOutcome.UNKNOWN)
    await armed.move(run, State.UNKNOWN, intents=(unknown,), next_at=START + HOUR)
    held = await armed.held(await armed.start("b"), 1, limit("global", 1), key="k2")
    assert held.reason is Reason.BUDGET


async def test_a_clock_that_was_set_back_does_not_widen_a_budget(armed: World) -> None:
    await armed.end(await armed.admitted(await armed.start("a"), key="k"))
    armed.later(-2 * HOUR)
    held = await armed.held(await armed.start("b"), 1, limit("global", 1), key="k2")
    assert held.reason is Reason.BUDGET


async def test_cooldown(armed: World) -> None:
    first = await armed.admitted(await armed.start("a", policy="q"), key="k")
    await armed.end(first)
    armed.later(4 * MINUTE)
    run = await armed.start("b")
    held = await armed.held(run, key="k", cooldown=5 * MINUTE)
    assert (held.reason, held.until) == (Reason.COOLDOWN, START + 5 * MINUTE)
    assert held.observed == f"run {first.id} of q acted 4m ago"
    await armed.admitted(run, key="elsewhere", cooldown=5 * MINUTE)
    armed.later(MINUTE)
    [run] = await armed.store.claim("w", 1)
    await armed.admitted(run, 2, key="k", cooldown=5 * MINUTE)


async def test_its_own_actions_do_not_cool_a_run_down(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k", cooldown=HOUR)
    run = await armed.move(run, State.GUARD)
    [run] = await armed.store.claim("w", 1)
    await armed.admitted(run, 2, key="k", cooldown=HOUR)


@pytest.mark.parametrize(
    ("limits", "observed", "allowed"),
    [
        ({"concurrent_policy": 1}, "1 runs of p hold a target", "fewer than 1"),
        ({"concurrent_global": 2}, "2 runs in all hold a target", "fewer than 2"),
    ],
)
async def test_concurrency(armed: World, limits: dict[str, Any], observed: str, allowed: str) -> None:
    holder = await armed.admitted(await armed.start("a"), key="k1")
    await armed.admitted(await armed.start("b", policy="q"), key="k2")
    run = await armed.start("c")
    held = await armed.held(run, key="k3", **limits)
    assert (held.reason, held.observed, held.allowed) == (Reason.CONCURRENCY, observed, allowed)
    await armed.end(holder)
    await armed.admitted(run, key="k3", **limits)


async def test_a_lock_under_quarantine_of_an_ended_run_crowds_nobody_out(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k1")
    await brake(armed, ControlKind.QUARANTINE, "target:k1")
    await armed.end(run, Outcome.ESCALATED)
    assert await armed.store.locks() == {"k1": run.id}
    await armed.admitted(await armed.start("b"), key="k2", concurrent_policy=1, concurrent_global=1)


async def test_its_own_lock_does_not_crowd_a_run_out(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k1", concurrent_policy=1, concurrent_global=1)
    run = await armed.move(run, State.GUARD)
    [run] = await armed.store.claim("w", 1)
    await armed.admitted(run, 2, key="k2", concurrent_policy=1, concurrent_global=1)
    assert set(await armed.store.locks()) == {"k1", "k2"}


async def test_a_busy_lock_names_its_holder(armed: World) -> None:
    holder = await armed.admitted(await armed.start("a"), key="k")
    run = await armed.start("b", policy="q")
    held = await armed.held(run, key="k")
    assert held.reason is Reason.LOCK_BUSY
    assert held.observed == f"run {holder.id} holds {run.target}"
    await armed.end(holder)
    await armed.admitted(run, key="k")


async def test_a_lock_left_by_an_ended_run_whose_quarantine_ran_out_is_free(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    until = Instant(START + MINUTE)
    quarantine = Control(
        kind=ControlKind.QUARANTINE, scope="target:k", reason="r", actor="d", since=START, until=until
    )
    await armed.end(run, Outcome.ESCALATED, controls=(quarantine,))
    armed.later(MINUTE)
    other = await armed.admitted(await armed.start("b"), key="k")
    assert await armed.store.locks() == {"k": other.id}


@pytest.mark.parametrize("kind", [IntentKind.REVERT, IntentKind.RETURN])
async def test_going_back_heeds_pause_and_quarantine_only_and_yet_counts(
    armed: World, kind: IntentKind
) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    await brake(armed, ControlKind.BREAKER, "policy:p")
    await armed.activate("set-2")
    strict: dict[str, Any] = {"concurrent_policy": 0, "concurrent_global": 0, "cooldown": HOUR}
    await brake(armed, ControlKind.PAUSE, "")
    assert (await armed.held(run, 2, key="k", kind=kind, **strict)).reason is Reason.PAUSED
    await armed.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
    answer = await armed.store.admit(
        run, armed.admission(run, 2, "k", limit("global", 1), kind=kind, need_firing=False, **strict)
    )
    assert not hasattr(answer, "until")
    await armed.end(await armed.store.run(run.id))
    other = await armed.start("b", policy="q")
    held = await armed.held(other, 1, limit("global", 2), key="x", policy_set="set-2")
    assert held.observed == "2 in 1h"


async def test_quarantine_also_holds_a_revert(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    await brake(armed, ControlKind.QUARANTINE, "target:k")
    assert (await armed.held(run, 2, key="k", kind=IntentKind.REVERT)).reason is Reason.QUARANTINED


async def test_a_call_is_permitted_again_only_where_no_brake_stops_it(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    unknown = (IntentUpdate(number=1, outcome=IntentOutcome.UNKNOWN),)
    run = await armed.moved(run, State.UNKNOWN, intents=unknown)
    again: dict[str, Any] = {"intents": (IntentUpdate(number=1, outcome=IntentOutcome.PENDING),)}
    for kind, scope in (
        (ControlKind.PAUSE, ""),
        (ControlKind.PAUSE, f"policy:{run.policy}"),
        (ControlKind.PAUSE, "target:k"),
        (ControlKind.QUARANTINE, "target:k"),
    ):
        await brake(armed, kind, scope)
        with pytest.raises(Braked):
            await armed.move(run, State.ACTING, **again)
        assert (await armed.store.run(run.id)).state is State.UNKNOWN
        [intent] = await armed.store.intents(run.id)
        assert intent.outcome is IntentOutcome.UNKNOWN
        await armed.store.clear_control(kind, scope, AuditEvent(kind="control.cleared"))
    await brake(armed, ControlKind.PAUSE, "policy:other")
    await brake(armed, ControlKind.QUARANTINE, "target:other")
    await armed.move(run, State.ACTING, **again)
    [intent] = await armed.store.intents(run.id)
    assert intent.outcome is IntentOutcome.PENDING


async def test_a_refusal_writes_nothing_and_keeps_the_claim(armed: World) -> None:
    holder = await armed.admitted(await armed.start("a"), key="k")
    run = await armed.start("b", policy="q")
    before = await armed.store.audit()
    await armed.held(run, key="k")
    assert await armed.store.run(run.id) == run
    assert await armed.store.intents(run.id) == []
    assert await armed.store.locks() == {"k": holder.id}
    assert await armed.store.audit() == before


async def test_the_same_number_twice_is_a_fault_of_the_caller(armed: World) -> None:
    run = await armed.admitted(await armed.start("a"), key="k")
    with pytest.raises(Conflict):
        await armed.admit(run, 1, key="k")
    assert len(await armed.store.intents(run.id)) == 1
