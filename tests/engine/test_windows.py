"""Windows hold actions back, let policies only plan, or are the only time in which one acts."""

from __future__ import annotations

from remediator.contracts import Held
from remediator.engine.states.admit import admission
from remediator.engine.states.admit import intent as wanted_intent
from remediator.engine.states.guard import guard
from remediator.engine.step import NO_EXTRA, Admit
from remediator.model import HOUR, MINUTE, Instant, Mode, Outcome, Reason, Status
from tests.engine.world import POLICY, START, Rig, World

# START is Friday, 15 January 2027, 08:00 UTC.
PATIENT = "give_up: 5h\nlimits: {cooldown: 0s}\n"


def windows(*entries: str) -> str:
    return "windows:\n" + "".join(f"  - {entry}\n" for entry in entries)


def window(name: str, begin: str, end: str, more: str = "effect: wait") -> str:
    times = f"time_intervals: [{{times: [{{start_time: '{begin}', end_time: '{end}'}}]}}]"
    return f"{{name: {name}, {times}{', ' if more else ''}{more}}}"


def rig(*entries: str, policy: str = POLICY + PATIENT, world: World | None = None) -> Rig:
    made = Rig(policy, world=world)
    made.files["windows.yaml"] = windows(*entries)
    return made


async def test_no_action_starts_within_a_window_and_the_run_goes_on_at_its_end() -> None:
    async with rig(window("patching", "07:00", "10:00")) as r:
        await r.fire()
        await r.until(2 * HOUR - 1)
        run = await r.run()
        assert (run.open, run.reason) == (True, Reason.WINDOW)
        assert run.observed == "window patching (effect wait) is open until 2027-01-15T10:00:00.000Z"
        assert run.progress.attempts < 30, "it knows when to look"
        assert r.world.calls == []
        await r.until(2 * HOUR)
        assert len(r.world.calls) == 1


async def test_a_window_over_the_policys_patience_ends_in_a_persons_hands() -> None:
    async with rig(window("patching", "07:00", "10:00"), policy=POLICY) as r:
        await r.fire()
        await r.until(3 * HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.GAVE_UP)
        assert "window patching" in run.observed
        assert r.world.calls == []


async def test_a_resolve_cancels_who_waits_for_a_window() -> None:
    async with rig(window("patching", "07:00", "10:00")) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        await r.until(HOUR + 1)
        assert (await r.run()).outcome is Outcome.CANCELLED


async def test_a_window_of_other_targets_holds_nothing_back() -> None:
    async with rig(window("patching", "07:00", "10:00", "effect: wait, targets: ['postgres:*']")) as r:
        await r.fire()
        await r.until(MINUTE)
        assert len(r.world.calls) == 1


async def test_a_window_holds_for_a_target_under_each_of_its_names() -> None:
    """Two policies reach one group by two names; the window is written for one of them."""
    world = World(aliases={"gpu-alias": "gpu"})
    other = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other") + PATIENT
    made = Rig(POLICY + PATIENT, other, world=world)
    made.files["windows.yaml"] = windows(
        window("patching", "09:00", "10:00", "effect: wait, targets: ['world:gpu']")
    )
    async with made as r:
        await r.fire()  # before the window, by the name that it is written for
        await r.until(HOUR - MINUTE)
        assert len(r.world.calls) == 1
        await r.until(HOUR)
        await r.fire(alertname="Other", group="gpu-alias", since=Instant(START + HOUR))
        await r.until(HOUR + MINUTE)
        second = (await r.runs())[1]
        assert (second.target, second.reason) == ("world:gpu-alias", Reason.WINDOW)
        assert len(r.world.calls) == 1


async def test_a_target_limit_holds_for_a_target_under_each_of_its_names() -> None:
    world = World(aliases={"gpu-alias": "gpu"})
    free = "limits: {cooldown: 0s, per_target: [9 per 1h]}\n"
    other = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other") + free
    limits = "targets: [{match: 'world:gpu', budget: [1 per 1h]}]\n"
    async with Rig(POLICY + free, other, limits=limits, world=world) as r:
        await r.fire()
        await r.until(MINUTE)
        await r.fire(alertname="Other", group="gpu-alias", since=Instant(START + MINUTE))
        await r.until(2 * MINUTE)
        second = (await r.runs())[1]
        assert (second.reason, len(r.world.calls)) == (Reason.BUDGET, 1)
        assert "limits.yaml targets world:gpu" in second.allowed


async def test_within_an_observe_window_policies_only_plan() -> None:
    async with rig(window("freeze", "07:00", "10:00", "effect: observe")) as r:
        await r.fire()
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason, run.mode) == (Outcome.OBSERVED, Reason.WINDOW, Mode.ENFORCE)
        assert run.observed.startswith("would run world.resize on world:gpu: size=3 → size=5; window freeze")
        assert r.world.calls == []


async def test_only_during_a_window_does_the_policy_act() -> None:
    policy = POLICY + PATIENT + "only_during: [office]\n"
    async with rig(window("office", "10:00", "12:00", ""), policy=policy) as r:
        await r.fire()
        await r.until(2 * HOUR - 1)
        run = await r.run()
        assert run.reason is Reason.WINDOW
        assert run.observed == "outside of office, next at 2027-01-15T10:00:00.000Z"
        await r.until(2 * HOUR)
        assert len(r.world.calls) == 1


async def test_only_during_and_a_window_that_waits() -> None:
    policy = POLICY + PATIENT + "only_during: [office]\n"
    both = (window("office", "08:00", "18:00", ""), window("lunch", "08:00", "09:30"))
    async with rig(*both, policy=policy) as r:
        await r.fire()
        await r.until(90 * MINUTE - 1)
        assert r.world.calls == []
        await r.until(90 * MINUTE)
        assert len(r.world.calls) == 1


async def test_an_action_that_has_begun_finishes_and_so_does_its_revert() -> None:
    """In steps of one: the window opens after the first. The second is no new action; going back is not
    held by windows."""
    policy = (
        POLICY.replace("add: 2", "add: 2, by: 1")
        + "verify: {within: 10m, checks: [{check: world.level, is: '< 50'}]}\non_failure: revert\n"
    )
    async with rig(window("patching", "08:01", "23:00"), policy=policy, world=World(unsettled=12)) as r:
        await r.fire()
        await r.until(5_000)
        assert len(r.world.calls) == 1
        await r.until(HOUR)
        assert [after for _, after, _ in r.world.calls] == [4, 5, 4, 3]
        assert (await r.run()).outcome is Outcome.REVERTED


async def test_the_next_rung_is_a_new_action_and_waits() -> None:
    rung = '  - action: world.resize\n    with: {group: "${labels.group}", add: 4, max: 10}\n'
    verify = "verify: {within: 2m, checks: [{check: world.level, is: '< 50'}]}\n"
    for effect in ("wait", "observe"):
        policy = POLICY + rung + verify + PATIENT
        async with rig(window("patching", "08:01", "09:00", f"effect: {effect}"), policy=policy) as r:
            await r.fire()
            await r.until(HOUR - 1)
            run = await r.run()
            assert (run.open, run.reason, len(r.world.calls)) == (True, Reason.WINDOW, 1)
            await r.until(HOUR + MINUTE)
            assert len(r.world.calls) == 2


async def test_a_run_by_hand_is_held_too_and_mode_observe_is_not() -> None:
    async with rig(window("patching", "07:00", "10:00"), policy=POLICY.replace("enforce", "observe")) as r:
        await r.fire()
        await r.until(MINUTE)
        assert (await r.run()).reason is Reason.PLANNED_ONLY


async def test_windows_that_change_let_go_of_who_waits_for_them() -> None:
    async with rig(window("patching", "07:00", "18:00")) as r:
        await r.fire()
        await r.until(MINUTE)
        assert (await r.run()).reason is Reason.WINDOW
        await r.load({**r.files, "windows.yaml": windows(window("patching", "07:00", "07:30"))})
        await r.until(MINUTE + 1)
        assert len(r.world.calls) == 1


async def test_a_window_that_opens_while_the_run_waits_for_its_turn_is_seen_by_admit() -> None:
    """The guards are asked a second before the window; ADMIT gets its turn two seconds later."""
    async with rig(window("patching", "09:00", "10:00")) as r:
        r.clock.set(Instant(START + HOUR - 1000))
        await r.fire(since=Instant(START + HOUR - 1000))
        (run,) = await r.store.claim("test", 10)
        case, _ = await r.worker._case(run)
        step = await guard(case.at(run.state, run.progress))
        assert isinstance(step, Admit)
        wanted = wanted_intent(case, step)
        r.clock.set(Instant(START + HOUR + 1000))
        answer = await r.store.admit(run, admission(case, step, wanted, (), NO_EXTRA))
        assert isinstance(answer, Held)
        assert (answer.reason, "patching" in answer.observed) == (Reason.WINDOW, True)
        r.clock.set(Instant(START + HOUR - 500))
        assert not isinstance(await r.store.admit(run, admission(case, step, wanted, (), NO_EXTRA)), Held)


async def test_explain_says_which_window() -> None:
    from remediator.engine.explain import explain

    async with rig(window("patching", "07:00", "10:00")) as r:
        receipt = await r.fire()
        await r.until(MINUTE)
        said = await explain(r.store, r.policies.revision, receipt.alerts[0])
        assert "waits: window: window patching (effect wait) is open until 2027-01-15T10:00" in said.headline
        assert said.alert["status"] == Status.FIRING
