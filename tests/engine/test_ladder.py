"""The ladder, steps, reverts, and leases."""

from __future__ import annotations

from remediator.model import HOUR, MINUTE, Outcome, Reason
from tests.engine.world import Rig, World

LADDER = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: world.resize
    with: {group: gpu, add: 2, max: 10}
  - action: world.resize
    when: [{check: world.level, with: {of: errors}, is: "> 0"}]
    with: {group: web, add: 1, max: 10}
  - action: world.resize
    with: {group: web, add: 3, max: 10}
limits: {cooldown: 0s, per_target: [10 per 1h], budget: [10 per 1h]}
verify:
  within: 5m
  checks: [{check: world.level, with: {}, is: "< 50"}]
on_failure: revert
"""
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


def rig(text: str, **world: object) -> Rig:
    world.setdefault("sizes", {"gpu": 3, "web": 1})
    world.setdefault("levels", {"queue": 120.0, "errors": 5.0})
    return Rig(text, world=World(**world))  # type: ignore[arg-type]


async def test_the_next_rung_only_when_the_former_did_not_heal() -> None:
    async with rig(LADDER, heals={5: 10.0}) as r:
        await r.fire()
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert [(g, s) for g, s, _ in r.world.calls] == [("gpu", 5)]


async def test_rungs_are_climbed_and_undone_in_reverse() -> None:
    async with rig(LADDER) as r:
        await r.fire()
        await r.until(2 * HOUR)
        run = await r.run()
        assert [(g, s) for g, s, _ in r.world.calls] == [
            ("gpu", 5),
            ("web", 2),
            ("web", 5),
            ("web", 2),
            ("web", 1),
            ("gpu", 3),
        ]
        assert (run.outcome, run.reason) == (Outcome.REVERTED, Reason.NOT_HEALED)
        assert r.world.sizes == {"gpu": 3, "web": 1}


async def test_a_rung_whose_condition_is_false_is_skipped_and_recorded() -> None:
    async with rig(LADDER, levels={"queue": 120.0, "errors": 0.0}) as r:
        await r.fire()
        await r.until(HOUR)
        assert ("web", 2) not in [(g, s) for g, s, _ in r.world.calls][:2]
        skipped = [e.event for e in await r.events() if e.event.kind == "remedy.skipped"]
        assert [event.data["rung"] for event in skipped] == [1]


async def test_a_rung_whose_condition_has_no_data_waits() -> None:
    async with rig(LADDER, levels={"queue": 120.0, "errors": None}) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        assert (await r.run()).reason is Reason.CHECK_UNANSWERED
        await r.until(2 * HOUR)
        assert r.world.sizes == {"gpu": 3, "web": 1}
        assert (await r.run()).outcome is Outcome.REVERTED


async def test_a_rung_that_fails_goes_on_only_if_verify_says_not_healed() -> None:
    async with rig(LADDER, faults=["deny"], levels={"queue": 10.0, "errors": 1.0}) as r:
        await r.fire()
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert r.world.calls == []


async def test_a_revert_leaves_a_persons_change_alone() -> None:
    async with rig(
        LADDER.split("  - action: world.resize\n    when")[0] + LADDER[LADDER.index("limits") :]
    ) as r:
        await r.fire()
        await r.until(2 * MINUTE)
        r.world.sizes["gpu"] = 8
        await r.until(HOUR)
        run = await r.run()
        assert r.world.sizes["gpu"] == 8
        assert run.outcome is Outcome.ESCALATED
        assert "action.revert_skipped" in await r.story(run.id)


async def test_steps_are_done_in_order_and_the_first_failure_ends_the_rung() -> None:
    text = LEASED.replace(
        "  - action: world.resize\n    with: {group: gpu, add: 2, max: 10}\n    expires: 2h\n",
        "  - steps:\n"
        "      - {action: world.resize, with: {group: gpu, add: 1, max: 10}}\n"
        "      - {action: world.resize, with: {group: web, add: 1, max: 10}}\n"
        "      - {action: world.resize, with: {group: gpu, add: 1, max: 10}}\n",
    )
    async with rig(text) as r:
        await r.fire()
        await r.until(MINUTE)
        assert [(g, s) for g, s, _ in r.world.calls] == [("gpu", 4), ("web", 2), ("gpu", 5)]
        assert (await r.run()).outcome is Outcome.SUCCEEDED
    async with rig(text, faults=["", "deny"]) as r:
        await r.fire()
        await r.until(MINUTE)
        assert [(g, s) for g, s, _ in r.world.calls] == [("gpu", 4)]
        assert (await r.run()).outcome is Outcome.ESCALATED


async def test_a_lease_puts_the_prior_value_back_in_time() -> None:
    async with rig(LEASED) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        assert r.world.sizes["gpu"] == 5
        (effect,) = await r.store.effects()
        assert (effect.field, effect.prior, effect.current) == ("size", 3, 5)
        await r.until(2 * HOUR + MINUTE)
        assert r.world.sizes["gpu"] == 3
        assert list(await r.store.effects()) == []
        back = (await r.runs())[-1]
        assert (back.outcome, back.reason) == (Outcome.REVERTED, Reason.LEASE_EXPIRED)
        assert list(await r.called()) == []


async def test_a_lease_is_extended_once_while_the_alert_fires_then_a_person_decides() -> None:
    async with rig(LEASED) as r:
        await r.fire()
        await r.until(3 * HOUR)
        assert r.world.sizes["gpu"] == 5
        await r.until(5 * HOUR)
        assert r.world.sizes["gpu"] == 5
        reasons = [run.reason for run in await r.runs()][1:]
        assert reasons == [Reason.LEASE_EXTENDED, Reason.LEASE_STILL_NEEDED]
        assert len(await r.called()) == 1


async def test_a_lease_is_needed_while_any_alert_of_its_run_fires() -> None:
    async with rig(LEASED, unsettled=3) as r:
        await r.fire(pod="a")
        await r.fire(pod="b")
        await r.until(HOUR)
        assert len(await r.store.episodes((await r.run()).id)) == 2
        await r.resolve(pod="a")
        await r.until(3 * HOUR)
        assert r.world.sizes["gpu"] == 5
        assert (await r.runs())[-1].reason is Reason.LEASE_EXTENDED
        await r.resolve(pod="b")
        await r.until(5 * HOUR)
        assert r.world.sizes["gpu"] == 3


async def test_a_later_run_inherits_the_oldest_prior_value() -> None:
    async with rig(LEASED) as r:
        await r.fire(pod="a")
        await r.until(HOUR)
        await r.resolve(pod="a")
        await r.fire(pod="b")
        await r.until(HOUR + MINUTE)
        await r.resolve(pod="b")
        assert r.world.sizes["gpu"] == 7
        (effect,) = await r.store.effects()
        assert (effect.prior, effect.current) == (3, 7)
        await r.until(4 * HOUR)
        assert r.world.sizes["gpu"] == 3


async def test_a_lease_leaves_a_persons_change_alone() -> None:
    async with rig(LEASED) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        r.world.sizes["gpu"] = 6
        await r.until(3 * HOUR)
        assert r.world.sizes["gpu"] == 6
        assert (await r.runs())[-1].reason is Reason.CHANGED_BY_PERSON
        assert list(await r.store.effects()) == []


TWO_FIELDS = LEASED.replace("world.resize\n", "world.reshape\n")


async def test_a_lease_on_two_fields_of_one_action_goes_back_in_one_call() -> None:
    async with rig(TWO_FIELDS) as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        assert {one.field: (one.prior, one.current) for one in await r.store.effects()} == {
            "size": (3, 5),
            "weight": (10, 50),
        }
        await r.until(3 * HOUR)
        assert (r.world.sizes["gpu"], r.world.weights["gpu"]) == (3, 10)
        assert [size for _, size, _ in r.world.calls] == [5, 3]
        closed = await r.store.effects(open=False)
        assert [one.outcome for one in closed] == ["returned", "returned"]


async def test_a_revert_closes_the_leases_on_every_field() -> None:
    async with rig(TWO_FIELDS + LADDER[LADDER.index("verify:") :]) as r:
        await r.fire()
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.REVERTED
        assert (r.world.sizes["gpu"], r.world.weights["gpu"]) == (3, 10)
        assert [one.outcome for one in await r.store.effects(open=False)] == ["reverted", "reverted"]
