"""Incidents on a driven clock: who is called when, what stops it, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from remediator.engine.incident.shape import detail
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.turn import turn
from remediator.engine.incident.watch import Incidents
from remediator.errors import Conflict
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    AuditEvent,
    Incident,
    IncidentId,
    IncidentProgress,
    Instant,
    Message,
    Millis,
    Severity,
)
from remediator.notify.audience import Routing
from remediator.policy.escalation import Step
from tests.engine.world import START, Rig, World

POLICY = """
name: queue
severity: {severity}
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
escalate: on-call
runbook: https://runbooks.example.com/queue
remedies:
  - action: world.resize
    with: {{group: "${{labels.group}}", add: 2, max: 10}}
verify:
  after: 1m
  within: 5m
  every: 15s
  checks: [{{check: world.level, is: "< 50"}}]
"""
ESCALATION = """
chains:
  on-call:
    - {after: 0m, notify: [primary]}
    - {after: 15m, notify: [secondary]}
    - {after: 30m, notify: [team-lead, status-page]}
    - {after: 60m, notify: [cto], if: "severity <= P1"}
acknowledge_within: {P1: 5m, P2: 30m, P3: 2h, P4: 8h}
"""
NOTIFIERS = ("primary", "secondary", "team-lead", "status-page", "cto", "team", "board")
ROUTES = {
    "declared": {"on-call": Severity.P4, "stakeholders": Severity.P3, "customers": Severity.P2},
    "updated": {"on-call": Severity.P4, "stakeholders": Severity.P2, "customers": Severity.P2},
    "resolved": {"on-call": Severity.P4, "stakeholders": Severity.P3, "customers": Severity.P2},
}
TELLING = Telling(
    Routing({"stakeholders": ("board",), "customers": ("status-page",)}, ROUTES, NOTIFIERS),
    channel="#incident-{id}",
    public_names=(("world:*", "Video encoding"),),
)
CALM = Telling(Routing({}, {"updated": {"on-call": Severity.P4}}, NOTIFIERS))
"""Nobody hears of anything but those whom a chain calls."""


class Watch(Rig):
    """A rig that notes when which message was posted, to whom."""

    def __init__(
        self, severity: str = "P3", *, telling: Telling = CALM, world: World | None = None, **more: str
    ) -> None:
        super().__init__(POLICY.format(severity=severity), telling=telling, world=world or sick())
        self.files["escalation.yaml"] = more.get("escalation", ESCALATION)
        self.said_at: list[tuple[int, Message]] = []

    async def until(self, span: int) -> None:
        """As Rig's, noting what was said at each instant."""
        end = Instant(START + span)
        for _ in range(5000):
            await self.worker.drain()
            await self.incidents.once()
            await self._note()
            times = (await self.store.next_due(), await self.store.next_incident_at())
            due = min((at for at in times if at is not None), default=None)
            if due is None or due > end:
                break
            self.clock.set(Instant(max(due, self.clock.now())))
        else:
            raise AssertionError("it never comes to rest")
        self.clock.set(Instant(max(end, self.clock.now())))
        await self.incidents.once()
        await self._note()

    async def _note(self) -> None:
        while due := await self.store.due_messages(1000):  # the next of an incident is due when one is sent
            for one in due:
                await self.store.message_sent(one.id, AuditEvent(kind="message.sent"))
                self.said_at.append((one.at - START, one.message))

    def calls(self, word: str = "INCIDENT") -> list[tuple[int, tuple[str, ...]]]:
        """When whom: messages to somebody whose subject has the word."""
        return [(at, said.notifiers) for at, said in self.said_at if word in said.subject and said.notifiers]

    async def incident(self) -> Incident:
        (found,) = await self.store.find_incidents()
        return found


def sick() -> World:
    """A world in which the action is refused by the provider: a person is called at once."""
    return World(faults=["deny"] * 9)


def other(severity: str) -> str:
    """Another policy on the same target, for another alert."""
    text = POLICY.format(severity=severity)
    return text.replace("name: queue", "name: queue2").replace("QueueHigh", "QueueDead")


async def test_the_chain_calls_each_step_at_its_millisecond_until_someone_has_it() -> None:
    async with Watch("P3") as r:
        await r.fire()
        await r.until(16 * MINUTE)
        opened = (await r.incident()).opened_at - START
        assert r.calls() == [(opened, ("primary",)), (opened + 15 * MINUTE, ("secondary",))]
        await r.incidents.acknowledge(IncidentId(1), "alice", "on it")
        await r.until(5 * HOUR)
        assert len(r.calls()) == 2
        updates = r.calls("STATUS UPDATE")
        assert [at - opened for at, _ in updates] == [n * 15 * MINUTE for n in range(1, 21)]
        # The one who is called at this very moment knows already.
        assert [who for _, who in updates[:2]] == [("primary",), ("primary", "secondary")]
        body = r.said_at[-1][1].body
        assert "Acknowledged: by alice" in body
        assert "alice has it" in body
        story = [one.event for one in await r.events() if one.event.kind.startswith("incident.")]
        assert [one.kind for one in story] == [
            "incident.declared", "incident.escalated", "incident.escalated", "incident.acknowledged"
        ]  # fmt: skip
        assert [one.data["notifiers"] for one in story[1:3]] == [["primary"], ["secondary"]]
        assert (story[3].actor, story[3].data["comment"]) == ("alice", "on it")


async def test_what_became_of_an_incident_is_shown_however_much_happened_on_its_target() -> None:
    async with Watch("P3") as r:
        await r.fire()
        await r.until(MINUTE)
        noise = AuditEvent(kind="run.waiting", target=(await r.incident()).target)
        told = AuditEvent(kind="message.sent", data={"incident": 2, "notifiers": ["primary"]})
        for second in (61, 62):
            await r.store.record([noise, told] * 700)
            await r.until(second * SECOND)
        await r.store.record([AuditEvent(kind="message.sent", data={"incident": 1, "subject": "the last"})])
        await r.incidents.acknowledge(IncidentId(1), "alice", "on it")
        shown = await detail(r.store, IncidentId(1))
        assert [one["kind"] for one in shown["events"]][-1] == "incident.acknowledged"
        assert "the last" in [one["data"].get("subject") for one in shown["events"]]
        assert {one["data"]["incident"] for one in shown["events"]} == {1}


async def test_a_condition_on_the_severity_decides_who_is_called() -> None:
    for severity, cto in (("P2", False), ("P1", True)):
        escalation = ESCALATION.replace("acknowledge_within", "#")
        async with Watch(severity, escalation=escalation) as r:
            await r.fire()
            await r.until(2 * HOUR)
            called = {name for _, names in r.calls() for name in names}
            assert ("cto" in called) is cto
            opened = (await r.incident()).opened_at - START
            times = {names: at - opened for at, names in r.calls()}
            assert times[("team-lead", "status-page")] == 30 * MINUTE


async def test_a_missed_acknowledgement_calls_the_next_step_at_once_and_once() -> None:
    async with Watch("P1") as r:
        await r.fire()
        await r.until(59 * MINUTE)
        opened = (await r.incident()).opened_at - START
        assert [(at - opened, names) for at, names in r.calls()] == [
            (0, ("primary",)),
            (5 * MINUTE, ("secondary",)),
            (30 * MINUTE, ("team-lead", "status-page")),
        ]
        (late,) = [one.event for one in await r.events() if one.event.kind == "incident.overdue"]
        assert late.observed == "not acknowledged for 5m"
        assert late.allowed == "acknowledge_within P1: 5m"
        steps = [one.event.data for one in await r.events() if one.event.kind == "incident.escalated"]
        assert [one["because"] for one in steps] == ["time", "unacknowledged", "time"]


async def test_an_acknowledgement_in_time_is_not_late() -> None:
    async with Watch("P1") as r:
        await r.fire()
        await r.until(4 * MINUTE)
        await r.incidents.acknowledge(IncidentId(1), "alice", "")
        await r.until(HOUR)
        assert len(r.calls()) == 1
        assert "incident.overdue" not in await r.story()


async def test_it_is_resolved_when_its_alerts_are_and_stops_calling() -> None:
    async with Watch("P3") as r:
        await r.fire()
        await r.until(10 * MINUTE)
        await r.resolve()
        await r.until(3 * HOUR)
        incident = await r.incident()
        assert incident.resolved_at == START + 10 * MINUTE
        assert [names for _, names in r.calls()] == [
            ("primary",),
        ]
        assert "incident.resolved" in await r.story()
        assert r.calls("RESOLVED") == []  # CALM: nobody wants to hear of the end


async def test_the_end_is_told_to_whom_it_was_declared() -> None:
    async with Watch("P3", telling=TELLING) as r:
        await r.fire()
        await r.until(10 * MINUTE)
        await r.resolve()
        await r.until(11 * MINUTE)
        assert r.calls("DECLARED")[0][1] == ("primary", "board")
        assert [names for _, names in r.calls("RESOLVED")] == [("primary", "board")]
        body = r.said_at[-1][1].body
        assert "Duration: 9m" in body or "Duration: 10m" in body
        assert "Root Cause: unknown" in body
        assert "no alert fires any more; remediator changed nothing" in body
        assert "Post-Mortem: unknown" in body


async def test_a_p1_is_declared_when_its_hold_is_over_even_if_it_heals() -> None:
    world = World(heals={5: 10.0})
    async with Watch("P1", world=world, telling=TELLING) as r:
        await r.fire()
        await r.until(30 * SECOND)
        incident = await r.incident()
        assert incident.opened_at == START
        assert incident.target_key == "world/earth/gpu"
        assert "verifies the effect" in r.said_at[0][1].body
        assert "ETA: healed, or known not to be, by" in r.said_at[0][1].body
        await r.until(4 * MINUTE)
        await r.resolve()
        await r.until(5 * MINUTE)
        assert (await r.incident()).resolved_at == START + 4 * MINUTE
        (end,) = [said for _, said in r.said_at if "RESOLVED" in said.subject]
        assert "remediator did: world.resize on world:gpu: size=3 → size=5" in end.body


async def test_a_p2_that_heals_calls_nobody() -> None:
    async with Watch("P2", world=World(heals={5: 10.0})) as r:
        await r.fire()
        await r.until(HOUR)
        assert await r.store.find_incidents() == []
        assert r.said_at == []


async def test_a_policy_that_observes_calls_nobody() -> None:
    async with Watch("P1") as r:
        await r.load({**r.files, "queue.yaml": POLICY.format(severity="P1").replace("enforce", "observe")})
        await r.fire()
        await r.until(HOUR)
        assert await r.store.find_incidents() == []


async def test_what_is_not_known_is_said_to_be_unknown() -> None:
    async with Watch("P3") as r:
        await r.fire()
        await r.until(MINUTE)
        body = r.said_at[0][1].body
        for line in (
            "Service: world:gpu", "Impact: unknown", "ETA: unknown", "Incident Channel: unknown",
            "War Room: unknown", "Seen: ", "Done: nothing was changed", "Alert: QueueHigh from am, firing",
            "Runbook: https://runbooks.example.com/queue", "secondary is called at",
            "remediator incidents ack 1",
        ):  # fmt: skip
            assert line in body, line


async def test_customers_hear_nothing_of_our_insides() -> None:
    async with Watch("P2", telling=TELLING) as r:
        await r.fire(host="db-internal-7")
        await r.until(40 * MINUTE)
        await r.resolve(host="db-internal-7")
        await r.until(41 * MINUTE)
        told = [said for _, said in r.said_at if "status-page" in said.notifiers]
        assert len(told) == 4  # declared, an update, called by the chain, resolved
        for said in told:
            assert said.notifiers == ("status-page",)
            assert said.public
            for word in ("gpu", "queue", "Queue", "world", "db-internal", "policy", "remediator", "alice"):
                assert word not in said.subject + said.body, word
        assert "Video encoding" in told[0].body


async def test_a_shorter_chain_breaks_nothing_and_a_new_step_is_called() -> None:
    shorter = ESCALATION.replace("    - {after: 15m, notify: [secondary]}\n", "").replace("30m,", "20m,")
    async with Watch("P3") as r:
        await r.fire()
        await r.until(16 * MINUTE)
        await r.load({**r.files, "escalation.yaml": "chains: {on-call: [{after: 0m, notify: [primary]}]}\n"})
        await r.until(40 * MINUTE)
        assert len(r.calls()) == 2
        await r.load({**r.files, "escalation.yaml": shorter})
        await r.until(41 * MINUTE)
        # The look at the status update finds the step whose time has passed.
        await r.until(46 * MINUTE)
        assert [names for _, names in r.calls()][2:] == [("team-lead", "status-page")]


async def test_a_chain_that_is_gone_calls_everyone() -> None:
    async with Watch("P3", telling=TELLING) as r:
        await r.fire()
        await r.until(MINUTE)
        gone = ESCALATION.replace("on-call:", "other:")
        policy = POLICY.format(severity="P3").replace("escalate: on-call", "escalate: other")
        await r.load({"queue.yaml": policy, "escalation.yaml": gone})
        await r.until(20 * MINUTE)
        _, everyone = r.calls("ESCALATED")[-1]
        assert set(everyone) == set(NOTIFIERS) - {"status-page"}


async def test_runs_of_one_target_are_one_incident_of_the_gravest_severity() -> None:
    second = other("P1")
    async with Watch("P3") as r:
        await r.load({**r.files, "queue2.yaml": second})
        await r.fire()
        await r.until(MINUTE)
        assert (await r.incident()).severity == "P3"
        await r.fire(alertname="QueueDead", since=r.clock.now())
        await r.until(2 * MINUTE)
        incident = await r.incident()
        assert incident.severity == "P1"
        assert [run.policy for run in await r.store.incident_runs(incident.id)] == ["queue", "queue2"]
        await r.resolve()
        await r.until(3 * MINUTE)
        assert (await r.incident()).open  # an alert of it fires still
        await r.resolve(alertname="QueueDead")
        await r.until(4 * MINUTE)
        assert not (await r.incident()).open


async def test_a_run_that_ends_later_is_news_at_once() -> None:
    second = other("P3")
    async with Watch("P3", telling=TELLING) as r:
        await r.load({**r.files, "queue2.yaml": second})
        await r.fire()
        await r.until(MINUTE)
        await r.fire(alertname="QueueDead", since=r.clock.now())
        await r.until(2 * MINUTE)
        ((_, names),) = r.calls("STATUS UPDATE")
        assert names == ("primary",)
        assert "Run 2: policy queue2, escalated" in r.said_at[-1][1].body


async def test_what_only_a_person_can_know_does_not_end_by_itself() -> None:
    async with Watch("P3", world=World(faults=["lost-before"])) as r:
        await r.fire()
        await r.until(5 * MINUTE)
        await r.resolve()
        await r.until(20 * MINUTE)
        assert (await r.incident()).open  # its target is quarantined
        await r.incidents.resolve(IncidentId(1), "alice", "looked: it is 3")
        assert not (await r.incident()).open
        with pytest.raises(Conflict, match="incident 1 is resolved"):
            await r.incidents.resolve(IncidentId(1), "alice", "again")
        with pytest.raises(Conflict, match="incident 1 is resolved"):
            await r.incidents.acknowledge(IncidentId(1), "bob", "")


async def test_a_second_acknowledgement_is_told_who_has_it() -> None:
    async with Watch("P3") as r:
        await r.fire()
        await r.until(MINUTE)
        await r.incidents.acknowledge(IncidentId(1), "alice", "on it")
        with pytest.raises(Conflict, match="incident 1 is acknowledged already, by alice"):
            await r.incidents.acknowledge(IncidentId(1), "bob", "")


async def test_after_a_rest_of_hours_it_goes_on_where_it_stood() -> None:
    """Nothing is kept in memory: another process finds what is due, and says it once."""
    async with Watch("P3") as r:
        await r.fire()
        await r.until(MINUTE)
        r.clock.set(Instant(START + 47 * MINUTE))
        await again(r).once()
        await again(r).once()
        await r._note()
        late = r.calls()[1:]
        assert [names for _, names in late] == [("secondary", "team-lead", "status-page")]
        assert [at for at, _ in r.calls("STATUS UPDATE")] == [47 * MINUTE]
        await r.until(61 * MINUTE)
        assert len(r.calls("STATUS UPDATE")) == 2  # at 60 minutes after the beginning, as ever


def again(r: Watch) -> Incidents:
    return Incidents(r.store, r.policies, CALM)


async def test_what_a_person_started_is_over_when_a_person_says_so() -> None:
    """No alert stands behind it: that nothing fires does not mean that it is over."""
    from remediator.engine.openings import opening
    from remediator.model import Origin

    async with Watch("P3") as r:
        active = r.policies.current
        assert active is not None
        real = r.policies.match

        def by_hand(alert: object, now: Instant) -> Sequence[object]:
            policy = active.policies["queue"]
            return (opening(active, r.known, policy, alert, now, Origin.HAND),)  # type: ignore[arg-type]

        r.policies.match = by_hand  # type: ignore[method-assign,assignment]
        await r.fire()
        r.policies.match = real  # type: ignore[method-assign]
        await r.until(HOUR)
        assert (await r.incident()).open
        assert r.calls("RESOLVED") == []
        await r.incidents.resolve((await r.incident()).id, "alice", "grew the disk")
        assert not (await r.incident()).open


def test_a_clock_that_went_back_keeps_nobody_from_being_called() -> None:
    """The incident then began in the future. Its first message went to nobody, and it might be over before
    its time came."""
    incident = Incident(
        id=IncidentId(1),
        target="world:a",
        target_key="world/a",
        severity=Severity.P2,
        opened_at=START,
        acknowledged_at=None,
        acknowledged_by=None,
        resolved_at=None,
        updated_at=START,
        next_at=START,
        progress=IncidentProgress(chain="on-call"),
    )
    steps = (
        Step(after=Millis(0), notify=("primary",)),
        Step(after=Millis(15 * MINUTE), notify=("secondary",)),
    )
    due = turn(incident, steps, None, Millis(15 * MINUTE), Instant(START - 10 * MINUTE))
    assert due.announce
    assert due.names == ("primary",)


def test_a_span_is_whole_minutes() -> None:
    from remediator.notify.incident import _whole_minutes

    assert [_whole_minutes(Millis(n)) for n in (0, 1_999, 59_999, 60_000, 119_999)] == [
        0, 1_000, 59_000, 60_000, 60_000
    ]  # fmt: skip
