"""Waiting is not refusal: budgets, cooldowns, locks, concurrency, pause."""

from __future__ import annotations

from remediator.model import (
    HOUR,
    MINUTE,
    AuditEvent,
    Control,
    ControlKind,
    Outcome,
    Reason,
)
from tests.engine.world import POLICY, START, Rig, World

MANY = {"sizes": {f"g{i}": 1 for i in range(12)}}
FREE = "limits: {cooldown: 0s, per_target: [100 per 1h], budget: [100 per 1h], concurrent: 100}\n"


def rig(policy: str = POLICY, limits: str = "", **world: object) -> Rig:
    return Rig(policy, limits=limits, world=World(**world))  # type: ignore[arg-type]


async def test_the_policy_budget_is_never_exceeded_and_frees_with_time() -> None:
    policy = POLICY + "give_up: 3h\nlimits: {cooldown: 0s, budget: [3 per 1h], concurrent: 10}\n"
    async with rig(policy, "global: {budget: [100 per 1h], concurrent: 50}\n", **MANY) as r:
        for i in range(7):
            await r.fire(group=f"g{i}")
        await r.until(MINUTE)
        assert len(r.world.calls) == 3
        waiting = [run for run in await r.runs() if run.open]
        assert {run.reason for run in waiting} == {Reason.BUDGET}
        assert all("3" in run.observed and "3 per 1h" in run.allowed for run in waiting)
        await r.until(HOUR - 1000)
        assert len(r.world.calls) == 3
        await r.until(HOUR + MINUTE)
        assert len(r.world.calls) == 6


async def test_the_global_budget_bounds_all_policies() -> None:
    other = POLICY.replace("name: queue", "name: other")
    files = Rig(
        POLICY + FREE,
        other + FREE,
        limits="global: {budget: [2 per 1h], concurrent: 9}\n",
        world=World(**MANY),
    )
    async with files as r:
        for i in range(4):
            await r.fire(group=f"g{i}")
        await r.until(10 * MINUTE)
        assert len(r.world.calls) == 2


async def test_the_built_in_limits_hold_where_none_are_written() -> None:
    async with rig(**MANY) as r:
        for i in range(12):
            await r.fire(group=f"g{i}")
        await r.until(20 * MINUTE)
        assert len(r.world.calls) == 4  # limits.budget: 4 per 1h


async def test_a_target_budget_of_limits_yaml_is_matched_by_name() -> None:
    limits = (
        "targets: [{match: 'world:g1*', budget: [1 per 1h]}]\nglobal: {budget: [100 per 1h], concurrent: 9}\n"
    )
    async with rig(POLICY + FREE, limits, **MANY) as r:
        await r.fire(group="g1", pod="a")
        await r.until(MINUTE)
        await r.fire(group="g1", pod="b")
        await r.until(2 * MINUTE)
        assert [group for group, _, _ in r.world.calls] == ["g1"]


async def test_cooldown_is_per_target_over_all_policies() -> None:
    other = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other")
    async with Rig(POLICY, other) as r:
        await r.fire()
        await r.until(MINUTE)
        await r.fire(alertname="Other")
        await r.until(9 * MINUTE)
        second = (await r.runs())[1]
        assert second.reason is Reason.COOLDOWN
        assert len(r.world.calls) == 1
        await r.until(11 * MINUTE)
        assert len(r.world.calls) == 2


async def test_a_run_that_holds_the_target_makes_others_wait() -> None:
    other = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other") + FREE
    async with Rig(POLICY + FREE, other, world=World(unsettled=30)) as r:
        await r.fire()
        await r.fire(alertname="Other")
        await r.until(10_000)
        holder, waits = sorted(await r.runs(), key=lambda run: run.reason is Reason.LOCK_BUSY)
        assert (waits.reason, waits.open) == (Reason.LOCK_BUSY, True)
        assert str(holder.id) in waits.observed
        await r.until(20 * MINUTE)
        assert [run.outcome for run in await r.runs()] == [Outcome.SUCCEEDED] * 2


async def test_concurrency_of_a_policy() -> None:
    policy = POLICY + FREE.replace("concurrent: 100", "concurrent: 1")
    async with rig(policy, "global: {budget: [100 per 1h], concurrent: 50}\n", unsettled=12, **MANY) as r:
        await r.fire(group="g1")
        await r.fire(group="g2")
        await r.until(3_000)
        assert len(r.world.calls) == 1
        assert Reason.CONCURRENCY in {run.reason for run in await r.runs()}
        await r.until(10 * MINUTE)
        assert len(r.world.calls) == 2


async def test_pause_holds_before_the_next_intent_and_resume_lets_go() -> None:
    async with rig() as r:
        pause = Control(kind=ControlKind.PAUSE, scope="", reason="change freeze", actor="alice", since=START)
        await r.store.set_control(pause, AuditEvent(kind="control.paused", actor="alice"))
        await r.fire()
        await r.until(5 * MINUTE)
        run = await r.run()
        assert run.reason is Reason.PAUSED
        assert "change freeze" in run.observed
        assert "alice" in run.observed
        assert r.world.calls == []
        await r.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
        await r.until(6 * MINUTE)
        assert len(r.world.calls) == 1


async def test_pausing_one_policy_leaves_others() -> None:
    other = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other")
    async with Rig(POLICY, other, world=World(**MANY)) as r:
        pause = Control(kind=ControlKind.PAUSE, scope="policy:queue", reason="r", actor="a", since=START)
        await r.store.set_control(pause, AuditEvent(kind="control.paused"))
        await r.fire(group="g1")
        await r.fire(alertname="Other", group="g2")
        await r.until(MINUTE)
        assert [group for group, _, _ in r.world.calls] == ["g2"]


async def test_waiting_ends_with_give_up_in_a_persons_hands() -> None:
    r = rig(POLICY + "escalate: on-call\n")
    r.files["escalation.yaml"] = "chains: {on-call: [{after: 0m, notify: [primary]}]}\n"
    async with r:
        pause = Control(kind=ControlKind.PAUSE, scope="", reason="r", actor="a", since=START)
        await r.store.set_control(pause, AuditEvent(kind="control.paused"))
        await r.fire()
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.REFUSED, Reason.GAVE_UP)
        assert run.updated_at == START + 30 * MINUTE
        assert len(await r.called()) == 1


async def test_further_episodes_of_a_target_attach_to_its_open_run() -> None:
    async with rig(unsettled=10) as r:
        await r.fire(pod="a")
        await r.fire(pod="b")
        await r.until(MINUTE)
        run = await r.run()
        assert len(await r.store.episodes(run.id)) == 2
        assert len(r.world.calls) == 1


async def test_an_attached_episode_keeps_the_run_alive() -> None:
    async with rig(POLICY + "for: 5m\n") as r:
        await r.fire(pod="a")
        await r.fire(pod="b")
        await r.until(MINUTE)
        await r.resolve(pod="a")
        await r.until(10 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED


async def test_more_open_runs_than_allowed_are_stored_refused() -> None:
    policy = POLICY + "for: 1h\nlimits: {open_runs: 2}\n"
    async with rig(policy, **MANY) as r:
        for i in range(4):
            await r.fire(group=f"g{i}")
        runs = await r.runs()
        assert [run.reason for run in runs] == [None, None, Reason.OPEN_RUNS, Reason.OPEN_RUNS]
        assert [run.outcome for run in runs][2:] == [Outcome.REFUSED] * 2
