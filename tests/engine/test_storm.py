"""Many new alerts of one sender at once: nothing of it is acted upon, and then the guards are asked again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from remediator.contracts import Arrivals, Delivery, Parsed
from remediator.engine import storm
from remediator.engine.upkeep import StormWatch
from remediator.model import HOUR, MINUTE, SECOND, Alert, Instant, Millis, Outcome, Reason, Status
from remediator.policy.limits import Storm
from tests.engine.world import POLICY, START, Rig, World

RULE = Storm(new_alerts=10, within=Millis(MINUTE), hold=Millis(15 * MINUTE))
LIMITS = "storm: {new_alerts: 10, within: 1m, hold: 15m}\nglobal: {budget: [100 per 1h], concurrent: 50}\n"
FREE = "give_up: 5h\nlimits: {cooldown: 0s, per_target: [99 per 1h], budget: [99 per 1h], concurrent: 50}\n"


def rig(policy: str = POLICY + FREE, **world: object) -> Rig:
    groups = {f"g{i}": 1 for i in range(40)}
    return Rig(policy, limits=LIMITS, world=World(sizes=groups, **world))  # type: ignore[arg-type]


async def pour(r: Rig, count: int, first: int = 0, name: str = "QueueHigh") -> None:
    """New alerts in one delivery."""
    alerts = tuple(
        Alert(
            sender="am",
            fingerprint=f"{name}-{i}",
            status=Status.FIRING,
            labels={"alertname": name, "group": f"g{i}"},
            annotations={},
            starts_at=r.clock.now(),
        )
        for i in range(first, first + count)
    )
    body = msgspec.json.encode(alerts)
    await r.store.accept(
        Delivery(
            sender="am",
            kind="told",
            body=body,
            parsed=Parsed(alerts=tuple((one, hash(one.fingerprint) & 0xFFFF) for one in alerts)),
            revision=r.policies.hash,
            received_at=r.clock.now(),
        ),
        r.policies.match,
    )


async def test_the_alerts_of_the_storm_themselves_are_not_acted_upon() -> None:
    async with rig() as r:
        await pour(r, 10)
        await r.until(15 * MINUTE)
        assert r.world.calls == []
        assert {(run.open, run.reason) for run in await r.runs()} == {(True, Reason.STORM)}
        (control,) = await r.store.controls()
        assert (control.scope, control.until) == ("sender:am", START + 15 * MINUTE + SECOND)
        assert all("10 new alerts of am within 1m" in run.observed for run in await r.runs())
        await r.until(15 * MINUTE + SECOND)
        assert len(r.world.calls) == 10


async def test_one_less_is_no_storm() -> None:
    async with rig() as r:
        await pour(r, 9)
        await r.until(MINUTE)
        assert len(r.world.calls) == 9
        assert await r.store.controls() == []


async def test_people_are_told_once_per_storm() -> None:
    async with rig() as r:
        await pour(r, 12)
        await r.until(10 * SECOND)
        for more in (20, 30):
            r.clock.set(Instant(r.clock.now() + 5 * MINUTE))
            await pour(r, 10, first=more)
            await r.until(r.clock.now() - START + SECOND)
        messages = [one.message for one in await r.store.due_messages(50)]
        assert [one.subject for one in messages] == [
            "[P2] a storm of alerts from am: nothing is acted upon until 2027-01-15T08:15:01.000Z"
        ]
        (event,) = [one.event for one in await r.events() if one.event.kind == "storm.tripped"]
        assert (event.reason, event.allowed) == ("storm", "fewer than 10")
        # it goes on, so it holds longer
        await r.until(25 * MINUTE)
        assert r.world.calls == []
        await r.until(26 * MINUTE)
        assert r.world.calls != []


async def test_after_the_hold_the_live_checks_are_asked_again() -> None:
    when = "when: [{check: world.level, with: {of: queue}, is: '> 100'}]\n"
    async with rig(POLICY + FREE + when) as r:
        await pour(r, 10)
        await r.until(MINUTE)
        r.world.levels["queue"] = 3.0
        await r.until(20 * MINUTE)
        assert {run.reason for run in await r.runs()} == {Reason.CHECK_FALSE}
        assert r.world.calls == []


async def test_a_storm_during_a_runs_hold_is_not_missed() -> None:
    """The run's own `for: 5m` ends four minutes after the storm was over: it still holds, read from what is
    stored, though nobody had a run to notice it by."""
    async with rig(POLICY + FREE + "for: 5m\n") as r:
        await r.fire(group="g39")
        await pour(r, 12, name="Other")
        await r.until(5 * MINUTE)
        run = await r.run()
        assert run.reason is Reason.STORM
        assert [control.scope for control in await r.store.controls()] == ["sender:am"]
        await r.until(20 * MINUTE)
        assert len(r.world.calls) == 1


async def test_a_storm_without_any_run_is_noticed_by_the_watch() -> None:
    async with rig() as r:
        watch = StormWatch(r.store, r.policies)
        await pour(r, 9, name="Other")
        await watch()
        assert await r.store.controls() == []
        await pour(r, 1, first=9, name="Other")
        await watch()
        await watch()
        assert len(await r.store.controls()) == 1
        assert len(await r.store.due_messages(10)) == 1


async def test_another_sender_goes_on() -> None:
    async with rig() as r:
        await pour(r, 12, name="Other")
        other = Storm(new_alerts=10, within=Millis(MINUTE), hold=Millis(15 * MINUTE))
        assert await storm.held(r.store, other, "gcp", r.clock.now()) is None
        assert await storm.held(r.store, other, "am", r.clock.now()) is not None


async def test_an_action_in_steps_is_finished_and_so_is_its_revert() -> None:
    policy = (
        POLICY.replace("add: 2", "add: 2, by: 1")
        + "verify: {within: 5m, checks: [{check: world.level, is: '< 50'}]}\non_failure: revert\n"
    )
    async with rig(policy, unsettled=5) as r:
        await r.fire(group="g39")
        await r.until(2 * SECOND)
        await pour(r, 12, name="Other")
        await r.until(HOUR)
        assert [after for _, after, _ in r.world.calls] == [2, 3, 2, 1]
        assert (await r.run()).outcome is Outcome.REVERTED


async def test_without_the_rule_nothing_is_held() -> None:
    r = Rig(POLICY + FREE, world=World(sizes={f"g{i}": 1 for i in range(40)}))
    r.files["limits.yaml"] = "global: {budget: [100 per 1h], concurrent: 50}\n"
    async with r:
        await pour(r, 20)
        await r.until(MINUTE)
        assert len(r.world.calls) == 20


@pytest.mark.parametrize(
    ("counts", "until"),
    [
        ([], None),
        ([(0, 10)], 1 + 900),
        ([(0, 9)], None),
        ([(0, 5), (59, 5)], 60 + 900),
        ([(0, 5), (60, 5)], None),
        ([(0, 5), (30, 5), (61, 4)], 31 + 900),
        ([(0, 5), (30, 5), (61, 5)], 62 + 900),
        ([(0, 10), (300, 9), (600, 10)], 601 + 900),
    ],
)
def test_a_storm_is_so_many_in_any_window(counts: Sequence[tuple[int, int]], until: int | None) -> None:
    rows = [Arrivals(sender="am", at=Instant(START + at * SECOND), count=n) for at, n in counts]
    found = storm.raging(rows, RULE, Instant(START + 700 * SECOND))
    assert (None if found is None else (found[0] - START) // SECOND) == until
    assert storm.raging(rows, RULE, Instant(START + 1502 * SECOND)) is None
