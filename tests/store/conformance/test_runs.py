"""Claiming, moving, ending and cancelling runs; leases on effects; target locks."""

from __future__ import annotations

import pytest

from remediator.contracts import IntentUpdate, Move, NewEffect
from remediator.errors import Conflict, LeaseLost, NotFound
from remediator.model import (
    HOUR,
    LEFT_TO_PERSON,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    IntentKind,
    IntentOutcome,
    Message,
    Origin,
    Outcome,
    Progress,
    Reason,
    Run,
    RunId,
    Severity,
    State,
)
from tests.store.world import START, World, alert, opening, plan


async def test_a_claim_raises_the_epoch_and_excludes_others(world: World) -> None:
    run = await world.start("a")
    assert run.epoch == 1
    assert await world.store.claim("other", 10) == []
    world.later(30 * SECOND)  # the lease of a worker that fell silent
    [again] = await world.store.claim("other", 10)
    assert (again.id, again.epoch) == (run.id, 2)


async def test_the_former_worker_has_lost_its_lease(world: World) -> None:
    run = await world.start("a")
    world.later(30 * SECOND)
    await world.store.claim("other", 10)
    before = await world.store.audit()
    with pytest.raises(LeaseLost, match="epoch 1"):
        await world.move(run, State.HOLD, events=(AuditEvent(kind="run.waiting", run=run.id),))
    with pytest.raises(LeaseLost):
        await world.admit(run)
    await world.store.release([run])  # must not free the other's claim
    assert await world.store.claim("third", 10) == []
    assert await world.store.audit() == before


async def test_claims_come_in_the_order_they_fell_due_and_within_the_limit(world: World) -> None:
    world.openings = lambda one: (
        opening(target=one.fingerprint, next_at=START + int(one.fingerprint) * SECOND),
    )
    receipt = await world.deliver(alert("3"), alert("1"), alert("2"), alert("9"))
    third, first, second, _ = receipt.runs
    world.later(5 * SECOND)
    assert [run.id for run in await world.store.claim("w", 2)] == [first, second]
    assert [run.id for run in await world.store.claim("w", 10)] == [third]


async def test_who_has_begun_comes_before_all_who_wait_to_begin(world: World) -> None:
    """A backlog of waiting runs kept those that held the targets from ending, and so itself from going on."""
    await world.activate()
    begun = await world.admitted(await world.start("begun"))
    begun = await world.move(begun, State.SETTLING, next_at=START + 2 * SECOND)
    world.openings = lambda one: (opening(target=one.fingerprint, next_at=START),)
    waiting = (await world.deliver(alert("1"), alert("2"))).runs
    world.later(5 * SECOND)
    assert [run.id for run in await world.store.claim("w", 2)] == [begun.id, waiting[0]]
    assert [run.id for run in await world.store.claim("w", 2)] == [waiting[1]]


async def test_next_due(world: World) -> None:
    assert await world.store.next_due() is None
    run = await world.start("a")
    assert await world.store.next_due() == START + 30 * SECOND  # when its claim runs out
    await world.move(run, State.HOLD, next_at=START + 10 * SECOND)
    assert await world.store.next_due() == START + 10 * SECOND


async def test_a_released_run_is_due_at_once(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    assert run.next_at == START + 30 * SECOND
    await world.store.release([run])
    [again] = await world.store.claim("other", 10)
    assert (again.id, again.state) == (run.id, State.ACTING)
    assert again.epoch > run.epoch


async def test_what_was_asked_for_before_letting_go_and_arrives_later_is_refused(world: World) -> None:
    """A request that its caller has given up on must not act for it once it has handed the run back."""
    await world.activate()
    run = await world.start("a")
    await world.store.release([run])
    with pytest.raises(LeaseLost):
        await world.admitted(run)
    with pytest.raises(LeaseLost):
        await world.move(run, State.GUARD)


async def test_a_restart_frees_claims_and_hands_out_what_was_acting(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    await world.reopen()
    [again] = await world.store.claim("w", 10)
    assert (again.id, again.state) == (run.id, State.ACTING)
    assert again.epoch > run.epoch
    [intent] = await world.store.intents(run.id)
    assert (intent.outcome, intent.nonce) == (IntentOutcome.PENDING, f"nonce-{run.id}-1")


async def test_a_wake_makes_it_due(world: World) -> None:
    run = await world.move(await world.start("a"), State.HOLD, next_at=START + HOUR)
    await world.store.wake(run.id)
    assert [one.id for one in await world.store.claim("w", 1)] == [run.id]


async def test_a_move_writes_everything_together(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    world.later(SECOND)
    moved = await world.move(
        run,
        State.SETTLING,
        next_at=START + MINUTE,
        progress=Progress(number=1, applied=(1,)),
        reason=Reason.HOLDING,
        observed="seen",
        allowed="wanted",
        events=(AuditEvent(kind="action.applied", run=run.id),),
        messages=(Message(chain="on-call", severity=Severity.P1, subject="s", body="b", run=run.id),),
        intents=(IntentUpdate(number=1, outcome=IntentOutcome.APPLIED, evidence={"pid": 7}),),
        controls=(Control(kind=ControlKind.PAUSE, scope="policy:p", reason="r", actor="a", since=world.now),),
    )
    assert moved == await world.store.run(run.id)
    assert (moved.state, moved.next_at, moved.updated_at) == (State.SETTLING, START + MINUTE, world.now)
    assert (moved.reason, moved.observed, moved.allowed) == (Reason.HOLDING, "seen", "wanted")
    assert moved.progress == Progress(number=1, applied=(1,))
    [intent] = await world.store.intents(run.id)
    assert (intent.outcome, intent.outcome_at, intent.evidence) == (
        IntentOutcome.APPLIED,
        world.now,
        {"pid": 7},
    )
    [message] = await world.store.due_messages(10)
    assert (message.message.run, message.attempts) == (run.id, 0)
    assert [control.scope for control in await world.store.controls()] == ["policy:p"]
    assert "action.applied" in await world.kinds(run=run.id)


async def test_a_move_that_fails_half_way_leaves_nothing(world: World) -> None:
    run = await world.start("a")
    with pytest.raises(Conflict, match="no intent 9"):
        await world.move(
            run,
            State.VERIFY,
            events=(AuditEvent(kind="verify.healed"),),
            intents=(IntentUpdate(number=9, outcome=IntentOutcome.APPLIED),),
        )
    assert await world.store.run(run.id) == run
    assert "verify.healed" not in await world.kinds()


async def test_evidence_that_json_does_not_know_is_kept_as_text(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    update = IntentUpdate(number=1, outcome=IntentOutcome.APPLIED, evidence={"odd": 1j})
    await world.move(run, State.SETTLING, intents=(update,))
    [intent] = await world.store.intents(run.id)
    assert intent.evidence == {"odd": "1j"}


async def test_an_open_run_without_a_timer_is_due_at_once(world: World) -> None:
    run = await world.move(await world.start("a"), next_at=None)
    assert [one.id for one in await world.store.claim("w", 1)] == [run.id]


async def test_an_ended_run_stays_as_it_is(world: World) -> None:
    run = await world.end(await world.start("a"), reason=Reason.HEALED)
    assert (run.outcome, run.next_at, run.open) == (Outcome.SUCCEEDED, None, False)
    with pytest.raises(LeaseLost):
        await world.move(run, State.GUARD)
    await world.store.wake(run.id)
    assert await world.store.claim("w", 10) == []


async def test_a_call_issued_again_keeps_the_claim(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    again = IntentUpdate(number=1, outcome=IntentOutcome.PENDING)
    await world.move(run, State.ACTING, intents=(again,), next_at=world.now)
    assert await world.store.claim("other", 10) == []
    world.later(30 * SECOND)
    assert len(await world.store.claim("other", 10)) == 1


async def test_a_zombies_outcome_is_evidence_and_changes_no_state(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    await world.store.evidence(run.id, 1, (AuditEvent(kind="action.late", run=run.id),))
    assert await world.store.run(run.id) == run
    assert "action.late" in await world.kinds(run=run.id)


async def test_find_runs(world: World) -> None:
    one = await world.start("a", policy="p")
    two = await world.start("b", policy="q")
    await world.end(two)
    assert [run.id for run in await world.store.find_runs()] == [two.id, one.id]
    assert [run.id for run in await world.store.find_runs(open=True)] == [one.id]
    assert [run.id for run in await world.store.find_runs(open=False)] == [two.id]
    assert [run.id for run in await world.store.find_runs(policy="p")] == [one.id]
    assert [run.id for run in await world.store.find_runs(before=two.id, limit=1)] == [one.id]
    with pytest.raises(NotFound):
        await world.store.run(RunId(99))


async def test_the_shadow_budget_counts_observed_runs(world: World) -> None:
    for name in "abc":
        run = await world.start(name)
        await world.end(run, Outcome.OBSERVED if name != "b" else Outcome.CANCELLED)
        world.later(MINUTE)
    assert await world.store.shadow_count("p", Instant(START - 1)) == 2
    assert await world.store.shadow_count("p", START) == 1
    assert await world.store.shadow_count("q", Instant(0)) == 0


async def test_cancel(world: World) -> None:
    run = await world.start("a")
    done = await world.store.cancel(run.id, AuditEvent(kind="run.cancelled", actor="alice", run=run.id))
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert await world.kinds(run=run.id) == ["run.created", "run.cancelled"]
    (said,) = await world.store.audit(policy=run.policy, kind="run.cancelled")  # found like any other
    assert (said.event.alert, said.event.target) == (run.alert, run.target)
    assert (said.event.actor, said.event.reason) == ("alice", Reason.CANCELLED_BY_PERSON)
    with pytest.raises(LeaseLost):
        await world.move(run, State.GUARD)
    with pytest.raises(Conflict, match="ended"):
        await world.store.cancel(run.id, AuditEvent(kind="run.cancelled"))
    with pytest.raises(NotFound):
        await world.store.cancel(RunId(99), AuditEvent(kind="run.cancelled"))


@pytest.mark.parametrize("state", [State.ACTING, State.SETTLING, State.VERIFY, State.GUARD])
async def test_a_run_that_has_acted_is_not_cancelled(world: World, state: State) -> None:
    await world.activate()
    run = await world.move(await world.admitted(await world.start("a")), state)
    with pytest.raises(Conflict, match="has acted"):
        await world.store.cancel(run.id, AuditEvent(kind="run.cancelled"))


# ---------------------------------------------------------------- locks


async def test_an_outcome_frees_the_lock(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"), key="k")
    assert await world.store.locks() == {"k": run.id}
    await world.end(await world.moved(run, State.VERIFY))
    assert await world.store.locks() == {}


@pytest.mark.parametrize("scope", ["target:k", "target:db:a"])
async def test_under_quarantine_only_a_person_frees_the_lock(world: World, scope: str) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"), key="k")
    brake = Control(kind=ControlKind.QUARANTINE, scope=scope, reason="unclear", actor="daemon", since=START)
    await world.end(run, Outcome.ESCALATED, controls=(brake,))
    assert await world.store.locks() == {"k": run.id}
    other = await world.start("b", target="db:a")
    assert (await world.held(other, key="k")).reason is Reason.QUARANTINED
    cleared = AuditEvent(kind="target.cleared", actor="alice")
    assert await world.store.clear_control(ControlKind.QUARANTINE, scope, cleared)
    assert await world.store.locks() == {}
    await world.admitted(other, key="k")


async def test_clearing_one_quarantine_does_not_free_another_target(world: World) -> None:
    await world.activate()
    for name in ("a", "b"):
        run = await world.admitted(await world.start(name), key=f"k{name}")
        brake = Control(
            kind=ControlKind.QUARANTINE, scope=f"target:k{name}", reason="r", actor="d", since=START
        )
        await world.end(run, Outcome.ESCALATED, controls=(brake,))
    await world.store.clear_control(
        ControlKind.QUARANTINE, "target:ka", AuditEvent(kind="target.cleared", actor="alice")
    )
    assert list(await world.store.locks()) == ["kb"]


# ---------------------------------------------------------------- leases on effects


async def lend(world: World, name: str, prior: int, current: int, expires: int, key: str = "k") -> Run:
    run = await world.admitted(await world.start(name, target=f"db:{name}"), key=key)
    lease = NewEffect(field="size", prior=prior, current=current, plan=plan(key), expires_at=Instant(expires))
    done = IntentUpdate(number=1, outcome=IntentOutcome.APPLIED)
    return await world.end(await world.moved(run, State.VERIFY, effects=(lease,), intents=(done,)))


async def test_a_later_lease_inherits_the_oldest_prior_value(world: World) -> None:
    await world.activate()
    first = await lend(world, "a", 3, 5, START + HOUR)
    second = await lend(world, "b", 5, 7, START + 2 * HOUR)
    [effect] = await world.store.effects()
    assert (effect.run, effect.prior, effect.current) == (second.id, 3, 7)
    older = (await world.store.effects(open=False))[-1]
    assert (older.run, older.outcome, older.returned_at) == (first.id, "superseded", world.now)


async def test_leases_of_other_fields_and_targets_are_their_own(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR, key="k1")
    await lend(world, "b", 4, 6, START + HOUR, key="k2")
    assert [effect.prior for effect in await world.store.effects()] == [3, 4]


async def test_a_lease_that_ran_out_becomes_a_run(world: World) -> None:
    await world.activate()
    lender = await lend(world, "a", 3, 5, START + HOUR)
    assert await world.store.next_due() == START + HOUR
    assert await world.store.claim("w", 10) == []
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    [effect] = await world.store.effects()
    assert (run.origin, run.state, run.progress.effect) == (Origin.LEASE, State.REVERTING, effect.id)
    assert (run.policy, run.policy_revision, run.alert) == (
        lender.policy,
        lender.policy_revision,
        lender.alert,
    )
    assert (run.target_key, run.target) == ("k", "db:orders")
    assert [one.id for one in await world.store.episodes(run.id)] == [lender.alert]
    world.later(MINUTE)
    assert [one.id for one in await world.store.claim("w", 10)] == [run.id]  # one run, not one a claim


async def test_a_returned_lease_opens_no_further_run(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    run = await world.admitted(run, key="k", kind=IntentKind.RETURN)
    effect = run.progress.effect or (await world.store.effects())[0].id
    await world.end(run, Outcome.REVERTED, effect_done=((effect, "returned"),))
    assert await world.store.effects() == []
    ended = await world.store.effect(effect)
    assert (ended.outcome, ended.returned_at) == ("returned", world.now)
    world.later(HOUR)
    assert await world.store.claim("w", 10) == []


async def test_an_extended_lease_opens_another_run_at_its_new_end(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    assert run.progress.effect is not None
    await world.end(
        run, Outcome.NOTHING_TO_DO, effect_extend=(run.progress.effect, Instant(START + 2 * HOUR))
    )
    assert (await world.store.effect(run.progress.effect)).extended
    assert await world.store.claim("w", 10) == []
    world.later(HOUR)
    [again] = await world.store.claim("w", 10)
    assert again.id != run.id


async def test_an_unknown_effect_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.store.effect(5)


def by(actor: str, kind: str = "effect.renewed") -> AuditEvent:
    return AuditEvent(kind=kind, actor=actor)


async def test_a_renewed_lease_opens_its_run_at_the_new_end(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    [effect] = await world.store.effects()
    assert effect.lent_at == START
    renewed = await world.store.renew_effect(effect.id, Instant(START + 2 * HOUR), by("alice"))
    assert (renewed.expires_at, renewed.renewed_by, renewed.renewals) == (START + 2 * HOUR, "alice", 1)
    with pytest.raises(Conflict, match="longer than"):
        await world.store.renew_effect(effect.id, Instant(START + 2 * HOUR), by("alice"))
    world.later(HOUR)
    assert await world.store.claim("w", 10) == []
    assert await world.store.next_due() == START + 2 * HOUR
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    assert (await world.store.effect(effect.id)).return_run == run.id
    with pytest.raises(Conflict, match=f"run {run.id}"):
        await world.store.renew_effect(effect.id, Instant(START + 4 * HOUR), by("alice"))
    assert (await world.kinds()).count("effect.renewed") == 1


async def test_a_recalled_lease_opens_its_run_now(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    [effect] = await world.store.effects()
    opened = await world.store.recall_effect(effect.id, by("alice", "effect.recalled"))
    [run] = await world.store.claim("w", 10)
    assert (run.id, run.origin, run.progress.effect) == (opened.id, Origin.LEASE, effect.id)
    assert (await world.store.effect(effect.id)).recalled_by == "alice"
    with pytest.raises(Conflict, match=f"run {run.id}"):
        await world.store.recall_effect(effect.id, by("bob", "effect.recalled"))
    with pytest.raises(NotFound):
        await world.store.recall_effect(77, by("bob", "effect.recalled"))
    world.later(2 * HOUR)
    assert [one.id for one in await world.store.claim("w", 10)] == [run.id]


async def test_a_return_that_ends_otherwise_leaves_its_lease_to_a_person(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    await world.end(run, Outcome.ESCALATED)
    [effect] = await world.store.effects(open=False)
    assert (effect.outcome, effect.returned_at) == (LEFT_TO_PERSON, world.now)
    assert await world.store.claim("w", 10) == []
    again = await world.store.recall_effect(effect.id, by("alice", "effect.recalled"))
    assert again.id != run.id
    assert [one.id for one in await world.store.effects()] == [effect.id]


async def test_admit_returns_only_what_is_still_lent(world: World) -> None:
    await world.activate()
    await lend(world, "a", 3, 5, START + HOUR)
    world.later(HOUR)
    [run] = await world.store.claim("w", 10)
    [effect] = await world.store.effects()
    await lend(world, "b", 5, 7, world.now + HOUR)  # another run on the same target, meanwhile
    answer = await world.held(run, key="k", kind=IntentKind.RETURN, leases=(effect.id,))
    assert answer.reason is Reason.LEASE_CLOSED
    assert await world.store.locks() == {}
    assert await world.store.intents(run.id) == []


async def test_a_move_whose_answer_was_lost_is_not_made_twice(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"), key="k")
    lease = NewEffect(field="size", prior=3, current=5, plan=plan("k"), expires_at=Instant(START + HOUR))
    told = AuditEvent(kind="action.applied", run=run.id)
    await world.move(run, State.SETTLING, effects=(lease,), events=(told,))
    with pytest.raises(LeaseLost):
        await world.move(run, State.SETTLING, effects=(lease,), events=(told,))
    assert len(await world.store.audit(kind="action.applied")) == 1
    assert len(await world.store.effects(open=False)) == 1


async def test_a_run_that_goes_on_is_claimed_anew_or_handed_back(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    going = Move(
        state=State.SETTLING, next_at=world.now, progress=run.progress, goes_on=True,
        events=(AuditEvent(kind="action.applied", run=run.id),),
    )  # fmt: skip
    moved = await world.store.move(run, going)
    with pytest.raises(LeaseLost):  # as one does whose answer was lost
        await world.store.move(run, going)
    assert (await world.kinds(run=run.id)).count("action.applied") == 1
    due = [one.id for one in await world.store.claim("another", 10)]
    if moved.epoch == run.epoch:
        assert due == [run.id]
        return
    assert due == []
    assert (await world.end(moved)).outcome is Outcome.SUCCEEDED


async def test_a_run_that_went_on_is_anothers_when_its_lease_is_over(world: World) -> None:
    await world.activate()
    run = await world.admitted(await world.start("a"))
    moved = await world.move(run, State.SETTLING, goes_on=True)
    world.later(31 * SECOND)
    taken = await world.claimed(run.id)
    assert taken.epoch > moved.epoch
    with pytest.raises(LeaseLost):
        await world.end(moved)
