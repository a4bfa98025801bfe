"""What becomes of a run when the engine is cut short, kept waiting, overtaken, or itself wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

from remediator.contracts import Move
from remediator.engine.advance import advance
from remediator.engine.policies import Policies
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    IntentOutcome,
    Outcome,
    Reason,
    Run,
    State,
)
from tests.engine.test_ladder import LADDER, LEASED
from tests.engine.world import POLICY, START, Rig, World, wait_until

BY_TOKEN = POLICY.replace("world.resize", "world.resize_by_token")
ONE_RUNG = LADDER[: LADDER.index("  - action: world.resize\n    when")] + LADDER[LADDER.index("limits") :]


async def brake(r: Rig, kind: ControlKind, scope: str) -> None:
    control = Control(kind=kind, scope=scope, reason="looked odd", actor="alice", since=r.clock.now())
    await r.store.set_control(control, AuditEvent(kind="control.set", actor="alice"))


# ---------------------------------------------------------------- the way back


async def test_a_quarantine_on_the_way_back_is_handed_to_a_person_at_once() -> None:
    async with Rig(ONE_RUNG) as r:
        await r.fire()
        await r.until(MINUTE)
        await brake(r, ControlKind.QUARANTINE, "target:world/earth/gpu")
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.QUARANTINED)
        assert [size for _, size, _ in r.world.calls] == [5]
        assert len(await r.called()) == 1


async def test_a_lease_that_cannot_be_returned_is_a_persons_and_not_open_for_ever() -> None:
    async with Rig(LEASED, world=World(faults=["", "deny"])) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        await r.until(3 * HOUR)
        back = (await r.runs())[-1]
        assert (back.outcome, back.reason) == (Outcome.ESCALATED, Reason.ACTION_FAILED)
        assert list(await r.store.effects()) == []
        (closed,) = await r.store.effects(open=False)
        assert (closed.outcome, closed.return_run) == ("left to a person", back.id)
        assert len(await r.called()) == 1


async def test_a_lease_of_a_quarantined_target_is_told_to_a_person() -> None:
    async with Rig(LEASED) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        await brake(r, ControlKind.QUARANTINE, "target:world/earth/gpu")
        await r.until(3 * HOUR)
        assert r.world.sizes["gpu"] == 5
        back = (await r.runs())[-1]
        assert (back.outcome, back.reason) == (Outcome.ESCALATED, Reason.QUARANTINED)
        assert len(await r.called()) == 1


async def test_going_back_that_is_throttled_for_ever_leaves_no_call_undecided() -> None:
    async with Rig(ONE_RUNG, world=World(faults=["", *["throttle"] * 500])) as r:
        await r.fire()
        await r.until(2 * HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.GAVE_UP)
        first, *back = await r.store.intents(run.id)
        assert first.outcome is IntentOutcome.APPLIED
        assert {intent.outcome for intent in back} == {IntentOutcome.NOT_APPLIED}


async def test_work_that_never_settles_needs_no_stronger_remedy_if_the_problem_is_gone() -> None:
    world = World(sizes={"gpu": 3, "web": 1}, unsettled=10_000, heals={5: 10.0})
    async with Rig(LADDER, world=world) as r:
        await r.fire()
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert [group for group, _, _ in r.world.calls] == ["gpu"]


# ---------------------------------------------------------------- unknown


async def test_a_call_whose_answer_is_always_lost_is_not_repeated_for_ever() -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"] * 500)) as r:
        await r.fire()
        await r.until(2 * HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)
        assert run.updated_at <= START + 32 * MINUTE  # give_up, a landing time, and the last look
        assert len(await r.called()) == 1
        assert len(await r.store.controls()) == 1


async def test_a_quarantine_by_a_person_stops_a_call_from_being_issued_again() -> None:
    async with Rig(BY_TOKEN, world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.until(10 * SECOND)
        await brake(r, ControlKind.QUARANTINE, "target:world/earth/gpu")
        await r.until(HOUR)
        run = await r.run()
        assert r.world.calls == []
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)


async def test_an_unknown_call_of_an_action_that_is_gone_is_quarantined_not_refused() -> None:
    async with Rig(world=World(faults=["lost-after"])) as r:
        await r.fire()
        await r.until(10 * SECOND)
        del r.known._actions["world.resize"]
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)
        assert "world.resize" in run.observed
        assert await r.store.locks() == {"world/earth/gpu": run.id}


# ---------------------------------------------------------------- the store, and other workers


async def test_an_intent_whose_commit_was_not_answered_is_read_again_and_called_once() -> None:
    async with Rig() as r:
        await r.fire()
        r.link.losing = True
        await r.until(MINUTE)
        run = await r.run()
        assert run.outcome is Outcome.SUCCEEDED
        assert [size for _, size, _ in r.world.calls] == [5]
        assert "action.unknown" not in await r.story(run.id)


async def test_a_process_that_was_stopped_before_its_call_does_not_call_when_its_lease_is_over() -> None:
    """Stopped (SIGSTOP) right after its intent was committed: by now the run may be anyone's."""
    passed = 0.0

    def stop() -> None:
        nonlocal passed
        passed += 30.0
        r.link.stop = lambda: None

    async with Rig(passed=lambda: passed) as r:
        r.link.stop = stop
        await r.fire()
        await r.until(0)
        assert r.world.calls == []
        (first,) = await r.store.intents((await r.run()).id)
        assert first.outcome is IntentOutcome.NOT_APPLIED
        await r.until(MINUTE)
        assert [size for _, size, _ in r.world.calls] == [5]


async def test_the_outcome_of_a_worker_that_was_overtaken_is_kept_and_changes_nothing() -> None:
    async with Rig(world=World(faults=["hang"]), apply_timeout=20) as r:
        await r.fire()
        (run,) = await r.store.claim("slow", 1)
        slow = asyncio.create_task(r.worker.advance(run))
        await asyncio.to_thread(wait_until, r.world.calling.is_set)
        r.clock.set(Instant(START + MINUTE))  # its lease is over
        await r.worker.drain()
        assert (await r.run()).state is State.UNKNOWN
        r.world.hold.set()
        await slow
        late = next(e.event for e in await r.events() if e.event.kind == "action.late")
        assert late.observed == "it was applied"
        run = await r.run()
        assert run.state is State.UNKNOWN
        (intent,) = await r.store.intents(run.id)
        assert intent.outcome is IntentOutcome.UNKNOWN


async def test_checks_that_together_take_too_long_are_no_answer_and_do_not_outlive_the_lease() -> None:
    async with Rig(POLICY + 'when: [{check: world.level, with: {}, is: "> 50"}]\n') as r:
        r.world.silent = True
        await r.fire()
        (run,) = await r.store.claim("rig", 1)
        case, _ = await r.worker._case(run)
        run = await advance(case, asking=0.05)
        assert run.reason is Reason.CHECK_UNANSWERED
        assert "too long" in run.observed
        assert r.world.calls == []


# ---------------------------------------------------------------- long absences


async def test_a_run_that_waited_when_the_daemon_went_away_does_not_act_on_an_old_alert(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    policy = POLICY + "give_up: 2d\n"
    async with Rig(policy, url=url) as r:
        await brake(r, ControlKind.PAUSE, "")
        await r.fire()
        await r.until(MINUTE)
        assert (await r.run()).state is State.GUARD
    async with Rig(policy, url=url, start=Instant(START + 8 * HOUR)) as r:
        await r.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
        await r.until(8 * HOUR + MINUTE)
        assert (await r.run()).reason is Reason.STALE_ALERT
        assert r.world.calls == []
        await r.fire()
        await r.until(8 * HOUR + 2 * MINUTE)
        assert len(r.world.calls) == 1


async def test_after_an_absence_live_checks_may_confirm_an_old_alert(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    policy = POLICY + 'for: 5m\nwhen: [{check: world.level, with: {}, is: "> 50"}]\n'
    async with Rig(policy, url=url) as r:
        await r.fire()
    async with Rig(policy, url=url, start=Instant(START + 8 * HOUR)) as r:
        await r.until(8 * HOUR + MINUTE)
        assert len(r.world.calls) == 1


# ---------------------------------------------------------------- faults in the daemon


async def test_a_fault_in_the_daemon_is_tried_again_and_then_told_to_a_person() -> None:
    async with Rig(world=World(broken=False)) as r:
        await r.fire()
        r.world.broken = True
        await r.until(MINUTE)
        assert (await r.run()).open
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_FAILED)
        assert "the catalogue is broken" in run.observed
        assert len(await r.called()) == 1


async def test_a_fault_in_the_daemon_that_passes_is_forgotten() -> None:
    async with Rig() as r:
        await r.fire()
        r.world.broken = True
        await r.until(MINUTE)
        r.world.broken = False
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_a_fault_right_after_an_action_is_counted_like_any_other() -> None:
    async with Rig() as r:

        async def breaking(run: Run, move: Move) -> Run:
            moved = await r.store.move(run, move)
            r.world.broken = move.state is State.SETTLING
            return moved

        await r.fire()
        r.link.move = breaking  # type: ignore[attr-defined]
        await r.worker.drain()
        run = await r.run()
        assert (run.state, run.progress.faults) == (State.SETTLING, 1)
        assert [intent.outcome for intent in await r.store.intents(run.id)] == [IntentOutcome.APPLIED]
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.ESCALATED
        assert len(r.world.calls) == 1


async def test_a_run_in_hand_is_handed_back_when_the_daemon_stops() -> None:
    async with Rig(world=World(faults=["hang"])) as r:
        await r.fire()
        await r.worker.step()
        await asyncio.to_thread(r.world.calling.wait, 10)
        r.worker.rest()
        r.world.hold.set()
        await r.worker.stop(10)
        (run,) = await r.store.claim("the next", 10)
        assert run.state is State.SETTLING
        assert (await r.story()).count("action.applied") == 1


async def test_a_fault_while_an_outcome_is_unknown_ends_in_quarantine() -> None:
    async with Rig(world=World(faults=["lost-after"])) as r:
        await r.fire()
        await r.until(10 * SECOND)
        r.world.broken = True
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)
        assert [control.kind for control in await r.store.controls()] == [ControlKind.QUARANTINE]
        assert len(await r.called()) == 1


# ---------------------------------------------------------------- policies that can no longer be read


async def forgets(r: Rig, action: str) -> None:
    """The daemon starts anew with a version and policies that do not know this action."""
    del r.known._actions[action]
    text = POLICY.replace("world.resize", "world.resize_by_token")
    r.policies = r.worker._policies = Policies(r.store, r.known, r.compile, None)
    await r.load({"queue.yaml": text})


async def test_a_run_whose_policy_can_no_longer_be_read_waits_and_is_then_a_persons() -> None:
    async with Rig(POLICY + "for: 5m\n") as r:
        await r.fire()
        await forgets(r, "world.resize")
        await r.until(10 * MINUTE)
        run = await r.run()
        assert (run.reason, run.open) == (Reason.POLICIES_CHANGED, True)
        assert "world.resize" in run.observed
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.POLICIES_CHANGED)
        assert r.world.calls == []
        assert (await r.story(run.id)).count("run.waiting") == 1
        assert len(await r.called()) == 1


async def test_a_run_whose_policy_can_be_read_again_goes_on() -> None:
    async with Rig(POLICY + "for: 5m\n") as r:
        await r.fire()
        gone = r.known._actions["world.resize"]
        await forgets(r, "world.resize")
        await r.until(10 * MINUTE)
        r.known._actions["world.resize"] = gone
        r.policies = r.worker._policies = Policies(r.store, r.known, r.compile, None)
        await r.policies.start()
        await r.until(12 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_a_call_in_doubt_whose_policy_can_no_longer_be_read_is_quarantined() -> None:
    async with Rig(world=World(faults=["lost-after"])) as r:
        await r.fire()
        await r.until(10 * SECOND)
        await forgets(r, "world.resize")
        await r.until(2 * HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.ACTION_UNKNOWN)
        assert await r.store.locks() == {"world/earth/gpu": run.id}
        assert len(await r.called()) == 1


async def test_a_process_that_cannot_load_the_active_set_claims_nothing_until_it_can(tmp_path: Path) -> None:
    async with Rig() as r:
        action = r.known._actions["world.resize_by_token"]
        newer = Policies(r.store, r.known, r.compile, None)
        await newer._propose({"queue.yaml": BY_TOKEN})  # another replica, of a newer version
        del r.known._actions["world.resize_by_token"]
        await r.policies.reload()
        assert not r.policies.usable
        assert "resize_by_token" in r.policies.fault
        await r.fire()
        await r.worker.drain()
        assert r.world.calls == []
        r.known._actions["world.resize_by_token"] = action
        r.policies = r.worker._policies = Policies(r.store, r.known, r.compile, None)
        await r.policies.start()
        assert (r.policies.usable, r.policies.fault) == (True, "")
        await r.worker.drain()
        assert len(r.world.calls) == 1


async def test_a_directory_that_could_not_be_read_for_a_while_leaves_no_fault_behind(tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "queue.yaml").write_text(POLICY)
    async with Rig() as r:
        policies = Policies(r.store, r.known, r.compile, directory)
        await policies.start()
        directory.rename(tmp_path / "away")
        await policies.reload()
        assert "policies" in policies.fault
        assert policies.usable
        (tmp_path / "away").rename(directory)
        await policies.reload()
        assert policies.fault == ""


async def test_a_set_with_a_fault_leaves_the_old_one_in_force_until_it_is_mended(tmp_path: Path) -> None:
    (tmp_path / "queue.yaml").write_text(POLICY)
    async with Rig() as r:
        policies = Policies(r.store, r.known, r.compile, tmp_path)
        await policies.start()
        old = policies.hash
        (tmp_path / "queue.yaml").write_text(POLICY.replace("world.resize", "world.rezise"))
        assert not await policies.reload()
        assert not await policies.reload()
        assert (policies.hash, policies.usable) == (old, True)
        assert "world.rezise" in policies.fault
        assert (await r.story()).count("policy.rejected") == 1  # told once, not at every look
        (tmp_path / "queue.yaml").write_text(POLICY + "description: mended\n")
        assert await policies.reload()
        assert policies.fault == ""
        assert policies.hash != old


async def test_a_delivery_is_matched_by_the_set_that_it_is_recorded_with() -> None:
    """The store may ask long after the delivery came: a policy may be gone by then, or new."""
    async with Rig() as r:
        before, matching = r.policies.hash, r.policies.matching()
        await r.load({"other.yaml": POLICY.replace("name: queue", "name: other")})
        receipt = await r.fire()
        episode = await r.store.episode(receipt.alerts[0])
        (old,) = matching(episode.alert, r.clock.now())
        (new,) = r.policies.matching()(episode.alert, r.clock.now())
        assert (old.policy, old.policy_revision) == ("queue", before)
        assert (new.policy, new.policy_revision) == ("other", r.policies.hash)


async def test_a_directory_that_lost_all_its_policies_changes_nothing(tmp_path: Path) -> None:
    """A volume that is not mounted looks like an empty directory."""
    (tmp_path / "queue.yaml").write_text(POLICY)
    async with Rig() as r:
        policies = Policies(r.store, r.known, r.compile, tmp_path)
        await policies.start()
        before = policies.hash
        (tmp_path / "queue.yaml").unlink()
        await policies.reload()
        assert policies.hash == before
        assert "holds no policy any more" in policies.fault
        assert [e.event.kind for e in await r.events()].count("policy.rejected") == 1
        (tmp_path / "queue.yaml").write_text(POLICY)
        await policies.reload()
        assert policies.fault == ""


async def test_an_outcome_whose_record_was_not_acknowledged_is_recorded_once() -> None:
    """The answer of the store was lost, not what it wrote: told again, it would stand there twice."""
    async with Rig(POLICY.rstrip() + "\n    expires: 1h\n") as r:
        r.link.losing_outcome = True
        await r.fire()
        await r.until(10 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        story = await r.story()
        assert story.count("action.applied") == 1
        assert "action.late" not in story
        assert len(await r.store.effects(open=False)) == 1
