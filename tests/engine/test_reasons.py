"""Every reason for which a run waits, is refused or is cancelled, each from a situation that brings it about:
what was seen and what is allowed stand in the audit log, in the explanation and in the metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remediator import metrics
from remediator.engine.explain import explain
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Decision,
    Instant,
    Reason,
)
from tests.engine.world import POLICY, START, Rig, World

WAITING = [one for one in Reason if list(Reason).index(one) < list(Reason).index(Reason.UNKNOWN_LABEL)]
REFUSING = [
    one
    for one in Reason
    if list(Reason).index(Reason.UNKNOWN_LABEL)
    <= list(Reason).index(one)
    < list(Reason).index(Reason.ALERT_RESOLVED)
]
CANCELLING = [
    Reason.ALERT_RESOLVED,
    Reason.POLICY_REMOVED,
    Reason.POLICY_DEMOTED,
    Reason.CANCELLED_BY_PERSON,
]
ELSEWHERE = {
    Reason.UNKNOWN_CONNECTION: "tests/clients/test_connections.py",
    Reason.MANAGED_ELSEWHERE: "tests/actions/test_kubernetes.py",
    Reason.CHANGED_BY_PERSON: "tests/engine/test_faults.py",
    Reason.IRREVERSIBLE: "tests/test_catalogue.py",
}
"""Reasons that an action or a connection gives, not the engine: shown there."""
UNUSED = {Reason.BOUND_EXCEEDED}
"""No shipped action gives it: their bounds are in the types of their parameters. For those of a plugin."""

OTHER = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other")
FREE = "limits: {cooldown: 0s, per_target: [99 per 1h], budget: [99 per 1h], concurrent: 50}\n"
CHECK = "when: [{check: world.level, is: '> 50'}]\n"
WINDOW = """\
windows:
  - {name: w, effect: wait, time_intervals: [{times: [{start_time: "08:00", end_time: "10:00"}]}]}
"""

Steps = Callable[[Rig], Awaitable[object]]


def brake(kind: ControlKind, scope: str = "", **data: Any) -> Control:
    return Control(kind=kind, scope=scope, reason="why not", actor="alice", since=START, data=data)


def on(kind: ControlKind, scope: str = "") -> Steps:
    async def steps(r: Rig) -> None:
        await r.store.set_control(brake(kind, scope), AuditEvent(kind="control.paused"))
        await r.fire()

    return steps


def fires(*labels: dict[str, str]) -> Steps:
    async def steps(r: Rig) -> None:
        for number, one in enumerate(labels or ({},)):
            if number:
                await r.until(r.clock.now() - START + 2 * SECOND)
            await r.fire(**one)

    return steps


async def breaker_opens_on_the_way(r: Rig) -> None:
    async def meanwhile() -> None:
        control = brake(ControlKind.BREAKER, "policy:queue", demote_to="observe")
        await r.store.trip(control, AuditEvent(kind="breaker.tripped"))

    r.link.before_admit = meanwhile
    await r.fire()


async def policies_change_on_the_way(r: Rig) -> None:
    async def meanwhile() -> None:
        await r.load({**r.files, "limits.yaml": "global: {concurrent: 2}\n"})

    r.link.before_admit = meanwhile
    await r.fire()


async def looked_at(r: Rig) -> None:
    receipt = await r.fire()
    await r.store.wake(receipt.runs[0])


async def an_absence(r: Rig) -> None:
    await r.fire()
    await r.worker.stop(0)
    await r.store.close()


async def loads_then(r: Rig, files: dict[str, str]) -> None:
    await r.fire()
    await r.worker.drain()
    await r.load(files)
    await r.until(r.clock.now() - START + 6 * MINUTE)


async def decided(r: Rig, decision: Decision) -> None:
    await r.fire()
    await r.worker.drain()
    (question,) = await r.store.approvals(open=True)
    await r.store.decide(question.id, decision, AuditEvent(kind=f"approval.{decision}", actor="alice"))


async def cancelled(r: Rig) -> None:
    receipt = await r.fire()
    event = AuditEvent(kind="run.cancelled", actor="alice", data={"reason": "by hand"})
    await r.store.cancel(receipt.runs[0], event)


async def resolved(r: Rig) -> None:
    await r.fire()
    await r.worker.drain()
    await r.resolve()


async def flaps(r: Rig) -> None:
    for pod in ("a", "b"):
        await r.fire(pod=pod)
        await r.until(r.clock.now() - START + MINUTE)


ASKS = POLICY.replace("enforce", "approve") + "approval: {role: manager, expires: 1m}\n"
HELD = POLICY + "for: 5m\n"


@dataclass(frozen=True)
class Situation:
    """What brings a reason about, and until when it has come."""

    steps: Steps
    policies: tuple[str, ...] = (POLICY,)
    world: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    until: int = 5 * SECOND


SITUATIONS: dict[Reason, Situation] = {
    Reason.HOLDING: Situation(looked_at, (HELD,)),
    Reason.LOCK_BUSY: Situation(
        fires({}, {"alertname": "Other"}), (POLICY + FREE, OTHER + FREE), {"unsettled": 30}
    ),
    Reason.CONCURRENCY: Situation(
        fires({"group": "a"}, {"group": "b"}), (POLICY,), {"unsettled": 30, "sizes": {"a": 1, "b": 1}}
    ),
    Reason.COOLDOWN: Situation(fires({}, {"alertname": "Other"}), (POLICY, OTHER)),
    Reason.BUDGET: Situation(
        fires({"group": "a"}, {"group": "b"}),
        (POLICY + "limits: {budget: [1 per 1h]}\n",),
        {"sizes": {"a": 1, "b": 1}},
    ),
    Reason.WINDOW: Situation(fires(), files={"windows.yaml": WINDOW}),
    Reason.STORM: Situation(
        fires(), files={"limits.yaml": "storm: {new_alerts: 1, within: 1m, hold: 15m}\n"}
    ),
    Reason.PAUSED: Situation(on(ControlKind.PAUSE)),
    Reason.BREAKER: Situation(
        breaker_opens_on_the_way,
        files={"limits.yaml": "breaker: {ineffective: 3, demote_to: observe}\n"},
        until=1,
    ),
    Reason.CHECK_FALSE: Situation(fires(), (POLICY + CHECK,), {"levels": {"queue": 3.0}}),
    Reason.CHECK_UNANSWERED: Situation(fires(), (POLICY + CHECK,), {"levels": {"queue": None}}),
    Reason.TEMPORARY_FAILURE: Situation(fires(), world={"faults": ["throttle"] * 9}),
    Reason.STALE_ALERT: Situation(an_absence, (HELD,), until=HOUR),
    Reason.APPROVAL_PENDING: Situation(fires(), (ASKS,)),
    Reason.POLICIES_CHANGED: Situation(policies_change_on_the_way, until=1),
    Reason.UNKNOWN_LABEL: Situation(fires({"group": ""})),
    Reason.INVALID_PARAMETER: Situation(fires({"group": "../etc"})),
    Reason.MISSING_TARGET: Situation(fires({"group": "nowhere"})),
    Reason.BLAST_RADIUS: Situation(fires(), (POLICY + "limits: {blast_radius: 1}\n",)),
    Reason.QUARANTINED: Situation(on(ControlKind.QUARANTINE, "target:world/earth/gpu")),
    Reason.OPEN_RUNS: Situation(
        fires({"group": "a"}, {"group": "b"}),
        (HELD + "limits: {open_runs: 1}\n",),
        {"sizes": {"a": 1, "b": 1}},
    ),
    Reason.GAVE_UP: Situation(
        fires(), (POLICY + CHECK + "give_up: 1m\n",), {"levels": {"queue": 3.0}}, until=2 * MINUTE
    ),
    Reason.FLAPPING: Situation(flaps, (POLICY + "limits: {cooldown: 0s, flapping: 1 per 1h}\n",)),
    Reason.APPROVAL_REJECTED: Situation(lambda r: decided(r, Decision.REJECTED), (ASKS,)),
    Reason.APPROVAL_EXPIRED: Situation(fires(), (ASKS,), until=2 * MINUTE),
    Reason.ALERT_RESOLVED: Situation(resolved, (HELD,)),
    Reason.POLICY_REMOVED: Situation(
        lambda r: loads_then(r, {"other.yaml": OTHER}), (HELD,), until=6 * MINUTE
    ),
    Reason.POLICY_DEMOTED: Situation(
        lambda r: loads_then(r, {"queue.yaml": HELD.replace("enforce", "observe")}), (HELD,), until=6 * MINUTE
    ),
    Reason.CANCELLED_BY_PERSON: Situation(cancelled, (HELD,)),
}


def test_every_reason_has_its_situation() -> None:
    """A new one is a line in the table above."""
    assert set(SITUATIONS) | set(ELSEWHERE) | UNUSED == {*WAITING, *REFUSING, *CANCELLING}
    assert not set(SITUATIONS) & set(ELSEWHERE)
    for reason, file in ELSEWHERE.items():
        assert f"Reason.{reason.name}" in Path(file).read_text(), f"{file} does not show {reason}"


def counted(reason: Reason) -> float:
    found = 0.0
    for counter in (metrics.WAITS, metrics.REFUSALS):
        for family in counter.collect():
            found += sum(
                sample.value
                for sample in family.samples
                if sample.name.endswith("_total") and sample.labels["reason"] == reason
            )
    return found


@pytest.mark.parametrize("reason", SITUATIONS, ids=str)
async def test_it_says_what_was_seen_and_what_is_allowed(reason: Reason, tmp_path: Path) -> None:
    here = SITUATIONS[reason]
    before = counted(reason)
    url = f"sqlite:///{tmp_path}/store.db"

    def rig(start: Instant) -> Rig:
        made = Rig(*here.policies, world=World(**here.world), url=url, start=start)
        made.files |= here.files
        return made

    async with rig(START) as r:
        await here.steps(r)
        if reason is not Reason.STALE_ALERT:
            await r.until(max(here.until, r.clock.now() - START))
            await judged(r, reason, before)
    if reason is Reason.STALE_ALERT:
        async with rig(Instant(START + HOUR)) as r:
            await r.worker.drain()
            await judged(r, reason, before)


async def judged(r: Rig, reason: Reason, before: float) -> None:
    runs = await r.runs()
    rows = [(run.observed, run.allowed) for run in runs if run.reason is reason]
    events = [
        (one.event.observed, one.event.allowed)
        for one in await r.events()
        if one.event.reason == reason and one.event.kind.startswith("run.")
    ]
    found = rows + events
    assert found, [(run.state, run.outcome, run.reason) for run in runs]
    for observed, allowed in found:
        assert observed or reason is Reason.CANCELLED_BY_PERSON
        assert allowed or reason is Reason.CANCELLED_BY_PERSON
    told = [await explain(r.store, r.policies.revision, run.alert) for run in runs]
    lines = [line.text for one in told for line in one.timeline] + [one.headline for one in told]
    named = "holds until" if reason is Reason.HOLDING else str(reason)
    assert any(named in line or (found[0][0] or named) in line for line in lines), lines
    if reason in WAITING:
        assert counted(reason) > before
    if reason in REFUSING and reason is not Reason.OPEN_RUNS:  # counted where deliveries are counted
        assert counted(reason) > before
