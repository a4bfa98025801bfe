"""A bound that is lowered holds for who waits: the set in force bounds every action that has not begun."""

from __future__ import annotations

import pytest

from remediator.engine.bounds import stricter
from remediator.model import HOUR, MINUTE, SECOND, Blast, Instant, Outcome, Reason
from remediator.policy.schema import Limits
from tests.engine.world import START, Rig, World

BOUNDED = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
give_up: 6h
when: [{{check: world.level, with: {{}}, is: "> 50"}}]
remedies:
  - action: world.resize
    with: {{group: "${{labels.group}}", add: 2, max: 10}}
limits: {{{limits}}}
{more}
"""
GENEROUS = "cooldown: 0s, per_target: [100 per 1h], budget: [100 per 1h], concurrent: 9, blast_radius: 90%"
LOWERED = [
    (GENEROUS.replace(" budget: [100", " budget: [1"), "", Reason.BUDGET),
    (GENEROUS.replace("per_target: [100", "per_target: [1"), "", Reason.BUDGET),
    (GENEROUS.replace("cooldown: 0s", "cooldown: 2h"), "", Reason.COOLDOWN),
    (GENEROUS, "only_during: [night]", Reason.WINDOW),
]
NIGHT = """
windows: [{name: night, time_intervals: [{times: [{start_time: "20:00", end_time: "23:00"}]}]}]
"""


def policy(limits: str = GENEROUS, more: str = "") -> str:
    return BOUNDED.format(limits=limits, more=more)


@pytest.mark.parametrize(("limits", "more", "reason"), LOWERED)
async def test_a_bound_that_is_lowered_holds_for_who_waits(limits: str, more: str, reason: Reason) -> None:
    async with Rig(policy(), world=World(levels={"queue": 10.0})) as r:
        r.files["windows.yaml"] = NIGHT
        await r.load(r.files)
        await r.fire(queue="one")
        await r.until(SECOND)
        assert (await r.run()).reason is Reason.CHECK_FALSE
        r.world.levels["queue"] = 90.0
        await r.until(MINUTE)
        assert len(r.world.calls) == 1
        r.world.levels["queue"] = 10.0
        await r.fire(queue="two", since=Instant(START + MINUTE))
        await r.until(2 * MINUTE)
        await r.load({**r.files, "queue.yaml": policy(limits, more)})
        r.world.levels["queue"] = 90.0
        await r.until(30 * MINUTE)
        run = (await r.runs())[-1]
        assert (run.reason, run.outcome) == (reason, None)
        assert len(r.world.calls) == 1
        await r.load(r.files)
        await r.until(31 * MINUTE)
        assert len(r.world.calls) == 2


async def test_a_blast_radius_that_is_lowered_holds_for_who_waits() -> None:
    async with Rig(policy(), world=World(levels={"queue": 10.0})) as r:
        await r.fire()
        await r.until(SECOND)
        tight = policy(GENEROUS.replace("90%", "1"))
        await r.load({**r.files, "queue.yaml": tight})
        r.world.levels["queue"] = 90.0
        await r.until(MINUTE)
        run = await r.run()
        assert (run.outcome, run.reason, run.allowed) == (
            Outcome.REFUSED,
            Reason.BLAST_RADIUS,
            "limits.blast_radius 90% and 1",
        )
        assert r.world.calls == []


async def test_a_bound_that_is_raised_is_not_for_who_began_under_a_lower_one() -> None:
    async with Rig(policy(GENEROUS.replace("90%", "1")), world=World(levels={"queue": 10.0})) as r:
        await r.fire()
        await r.until(SECOND)
        await r.load({**r.files, "queue.yaml": policy()})
        r.world.levels["queue"] = 90.0
        await r.until(MINUTE)
        assert (await r.run()).reason is Reason.BLAST_RADIUS


def test_the_stricter_of_two_limits_is_in_neither_point_looser() -> None:
    one = Limits.model_validate(
        {"cooldown": HOUR, "concurrent": 2, "blast_radius": "30%", "flapping": "6 per 1d"}
    )
    other = Limits.model_validate(
        {"cooldown": MINUTE, "concurrent": 3, "blast_radius": 5, "flapping": "1 per 1h"}
    )
    for found in (stricter(one, other), stricter(other, one)):
        assert (found.cooldown, found.concurrent, str(found.flapping)) == (HOUR, 2, "6 per 1d")
        assert {*found.budget} == {*one.budget, *other.budget}
        allowed = [found.blast_radius.allows(Blast(amount=amount, whole=whole, unit="")) for amount, whole in
                   [(3, 10), (4, 10), (5, 100), (6, 100), (1, None)]]  # fmt: skip
        assert allowed == [True, False, True, False, False]
