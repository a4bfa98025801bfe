"""Many calls at the same moment: each is judged as if it were alone, and none spoils another."""

from __future__ import annotations

import asyncio

import pytest

from remediator.contracts import Held, IntentUpdate
from remediator.errors import Conflict, LeaseLost
from remediator.model import (
    HOUR,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    IntentOutcome,
    Message,
    Outcome,
    Progress,
    Reason,
    Run,
    Severity,
    State,
    Status,
)
from tests.store.world import START, World, alert, limit, opening

EVENT = AuditEvent(kind="test.done")


async def claimed(world: World, count: int) -> list[Run]:
    await world.activate()
    world.openings = lambda one: (opening(target=one.fingerprint, open_runs=1_000),)
    await world.deliver(*(alert(f"a{number}") for number in range(count)))
    return list(await world.store.claim("w", count))


async def test_a_budget_is_counted_within_the_group(world: World) -> None:
    runs = await claimed(world, 30)
    answers = await asyncio.gather(*(world.admit(run, 1, limit("global", 7)) for run in runs))
    assert len([answer for answer in answers if isinstance(answer, Run)]) == 7
    assert {one.reason for one in answers if isinstance(one, Held)} == {Reason.BUDGET}
    # What was refused left nothing: no intent, no event, no lock.
    assert (await world.kinds()).count("run.admitted") == 7
    assert len(await world.store.locks()) == 7
    intents = [await world.store.intents(run.id) for run in runs]
    assert sorted(len(found) for found in intents) == [0] * 23 + [1] * 7


async def test_who_has_lost_the_lease_and_who_asks_twice_spoil_nobody(world: World) -> None:
    runs = await claimed(world, 12)
    twice = await world.admitted(runs[0])
    await world.store.release([runs[1]])
    assert [run.id for run in await world.store.claim("other", 10)] == [runs[1].id]

    async def outcome(run: Run) -> str:
        try:
            answer = await world.admit(run, 1)
        except (Conflict, LeaseLost) as error:
            return type(error).__name__
        return type(answer).__name__

    answers = await asyncio.gather(*(outcome(run) for run in (twice, *runs[1:])))
    assert answers == ["Conflict", "LeaseLost"] + ["Run"] * 10
    assert (await world.kinds()).count("run.admitted") == 11


async def test_of_many_that_are_cancelled_those_that_an_alert_has_joined_are_looked_at_again(
    world: World,
) -> None:
    runs = await claimed(world, 30)
    await world.deliver(*(alert(f"a{number}", Status.RESOLVED) for number in range(30)))
    world.openings = lambda joining: (opening(target=joining.fingerprint.removeprefix("b-")),)
    await world.deliver(*(alert(f"b-{run.target}") for run in runs[::3]))
    ends = (world.end(run, Outcome.CANCELLED, reason=Reason.ALERT_RESOLVED, events=(EVENT,)) for run in runs)
    left = [run.id for run in await asyncio.gather(*ends) if run.outcome is None]
    assert left == [run.id for run in runs[::3]]
    assert (await world.kinds()).count("test.done") == 20
    assert {run.id for run in await world.store.claim("w", 100)} == set(left)


async def test_what_is_known_of_many_is_what_is_known_of_each(world: World) -> None:
    runs = await claimed(world, 5)
    acted = await world.admitted(runs[2])
    facts = await world.store.facts([*runs[:2], acted, *runs[3:]])
    for run in runs:
        assert facts[run.id].episodes == tuple(await world.store.episodes(run.id))
        assert facts[run.id].intents == tuple(await world.store.intents(run.id))
        assert facts[run.id].controls == tuple(await world.store.controls())
    assert await world.store.facts([]) == {}


async def test_many_moves_are_each_what_one_alone_is(world: World) -> None:
    """Those that one statement can write and those that it cannot, in one group: rows, intents, events,
    messages and locks are as if each had been made by itself."""
    runs = await claimed(world, 12)
    acted = [await world.admitted(run, key=f"k:{run.id}") for run in runs[:8]]
    woken = runs[8]
    await world.store.wake(woken.id)
    await world.store.release([runs[9]])
    later = Instant(START + HOUR)
    pause = Control(kind=ControlKind.PAUSE, scope="policy:q", reason="r", actor="a", since=START)
    message = Message(chain="on-call", severity=Severity.P1, subject="s", body="b", run=acted[1].id)
    applied = IntentUpdate(number=1, outcome=IntentOutcome.APPLIED)
    proof = IntentUpdate(number=1, outcome=IntentOutcome.UNKNOWN, evidence={"pid": 7})

    async def lost() -> str:
        with pytest.raises(LeaseLost):
            await world.move(runs[9], events=(EVENT,))
        return "lost"

    moved = await asyncio.gather(
        world.move(acted[0], State.SETTLING, next_at=later, intents=(applied,), observed="seen"),
        world.move(acted[1], State.SETTLING, next_at=later, intents=(proof,), messages=(message,)),
        world.end(acted[2], reason=Reason.HOLDING, events=(EVENT,)),
        world.end(acted[3], Outcome.ESCALATED, controls=(pause,), events=(EVENT,)),
        world.move(woken, State.HOLD, next_at=later, progress=Progress(number=3)),
        lost(),
    )
    settling, asked, ended, escalated, held = [run for run in moved if isinstance(run, Run)]
    for run in (settling, asked, ended, escalated, held):
        assert run == await world.store.run(run.id)
    assert (settling.state, settling.next_at, settling.observed) == (State.SETTLING, later, "seen")
    assert settling.target_key == f"k:{settling.id}"
    [intent] = await world.store.intents(settling.id)
    assert (intent.outcome, intent.outcome_at, intent.evidence) == (IntentOutcome.APPLIED, world.now, {})
    [intent] = await world.store.intents(asked.id)
    assert (intent.outcome, intent.evidence) == (IntentOutcome.UNKNOWN, {"pid": 7})
    assert [sent.message.run for sent in await world.store.due_messages(5)] == [asked.id]
    assert (ended.outcome, ended.next_at) == (Outcome.SUCCEEDED, None)
    assert escalated.outcome is Outcome.ESCALATED
    assert (held.next_at, held.progress.number) == (world.now, 3)  # the wake is not lost
    assert sorted((await world.store.locks()).values()) == [run.id for run in (*acted[:2], *acted[4:])]
    assert [control.scope for control in await world.store.controls()] == ["policy:q"]
    assert (await world.kinds()).count("test.done") == 2
