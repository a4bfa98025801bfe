"""What went wrong in systems like this one, each as a test: the docstring says what, and where.

Where a lesson has more tests than the one here, they stand with the part that keeps it. That shipped
policies match what their senders really send is tested in tests/policy/test_shipped.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from remediator.actions.kubernetes import Scale, ScaleParams
from remediator.contracts import Delivery, Observed, Parsed
from remediator.engine.explain import explain
from remediator.engine.worker import Worker
from remediator.errors import ConfigurationError, PayloadError, Refused, StoreUnavailable
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    Alert,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Outcome,
    Reason,
    State,
    Status,
    Target,
)
from remediator.receivers.alertmanager import Alertmanager
from remediator.receivers.cloud_monitoring import CloudMonitoring
from remediator.settings import Sender
from tests.engine.world import POLICY, START, Rig, World, wait_until

MANY = {f"g{i}": 1 for i in range(12)}
OTHER = POLICY.replace("name: queue", "name: other").replace("QueueHigh", "Other")
FREE = "limits: {cooldown: 0s, per_target: [100 per 1h], budget: [100 per 1h], concurrent: 100}\n"
OPEN = "global: {budget: [100 per 1h], concurrent: 100}\n"
VERIFY = 'verify: {within: 5m, checks: [{check: world.level, with: {}, is: "< 50"}]}\n'
LEASED = POLICY + "    expires: 2h\n" + FREE


def second(r: Rig) -> Worker:
    """Another node: a worker of its own on the same store."""
    return Worker("second", r.worker._tools, r.policies)


async def times(r: Rig) -> list[int]:
    """When each action went through, in milliseconds after the start."""
    return [event.at - START for event in await r.events() if event.event.kind == "action.applied"]


# ---------------------------------------------------------------- intake


async def test_what_was_not_committed_is_not_taken_for_a_repeat() -> None:
    """Robusta: marked processed before it was queued; the resend was suppressed for two hours."""
    async with Rig() as r:
        alert = Alert(
            sender="am", fingerprint="f", status=Status.FIRING, starts_at=START, annotations={},
            labels={"alertname": "QueueHigh", "severity": "P2", "group": "gpu"},
        )  # fmt: skip
        sent = Delivery(
            sender="am", kind="told", body=json.dumps([]).encode(), parsed=Parsed(alerts=((alert, 1),)),
            revision=r.policies.hash, received_at=START,
        )  # fmt: skip

        def breaks(_alert: Alert, _now: Instant) -> tuple[()]:
            raise StoreUnavailable("in the middle of the transaction")

        with pytest.raises(StoreUnavailable):
            await r.store.accept(sent, breaks)
        again = await r.store.accept(sent, r.policies.match)
        assert (again.accepted, again.repeated, len(again.runs)) == (1, 0, 1)


async def test_the_answer_to_a_sender_waits_for_no_action_and_knows_none() -> None:
    """prometheus-am-executor: a command's failure was answered 500, so the sender repeated the action."""
    async with Rig(world=World(faults=["deny"])) as r:
        assert (await r.fire()).accepted == 1
        assert r.world.calls == []
        await r.until(MINUTE)
        assert (await r.run()).outcome is Outcome.ESCALATED
        assert (await r.fire()).repeated == 1
        await r.until(HOUR)
        assert len(await r.store.intents((await r.run()).id)) == 1


def test_an_address_in_a_body_is_never_fetched() -> None:
    """Keep, SNS provider: the SubscribeURL was fetched without checking the signature."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/confirm"
        forged = json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": url}).encode()
        for receiver in (
            Alertmanager({"am": Sender(kind="alertmanager")}),
            CloudMonitoring({"am": Sender(kind="cloud_monitoring")}),
        ):
            with pytest.raises(PayloadError):
                receiver.parse("am", forged, START)
        with pytest.raises(TimeoutError):
            listening.accept()


async def test_a_store_that_hangs_is_an_error_in_time(tmp_path: Path) -> None:
    """A workflow library: its own store hung, and so did the webhook."""
    async with Rig(url=f"sqlite:///{tmp_path}/store.db") as r:
        blocker = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        try:
            blocker.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await r.fire()
            assert time.monotonic() - began < 6  # its deadline is 2 s; machines are slow at times
        finally:
            blocker.close()
        again = await r.fire()  # the first, refused in time, may have been written all the same
        assert again.accepted + again.repeated == 1


# ---------------------------------------------------------------- never twice, never stuck


async def test_a_stuck_run_blocks_no_other_target() -> None:
    """keep#6531: one stuck row, 77 alerts stored, none acted on."""
    world = World(sizes=dict(MANY), faults=["hang"])
    async with Rig(POLICY + FREE, limits=OPEN, world=world, apply_timeout=20) as r:
        await r.fire(group="g0")
        await r.worker.step()
        await asyncio.to_thread(wait_until, r.world.calling.is_set)
        for i in range(1, 12):
            await r.fire(group=f"g{i}")
        await r.worker.step()
        await asyncio.sleep(0)
        for _ in range(200):
            if len(r.world.calls) == 11:
                break
            await asyncio.sleep(0.01)
        assert sorted(group for group, _, _ in r.world.calls) == sorted(f"g{i}" for i in range(1, 12))


@pytest.mark.parametrize("leave", [State.HOLD, State.GUARD, State.SETTLING, State.UNKNOWN, State.VERIFY])
async def test_a_run_goes_on_in_the_next_process_whatever_its_state(leave: State, tmp_path: Path) -> None:
    """argo-events#2340: killed pods broke the promised at-least-once.

    tests/crash kills a real daemon at every boundary; here the state itself is what the next one finds.
    """
    url = f"sqlite:///{tmp_path}/store.db"
    policy = POLICY + "for: 1m\n" + VERIFY
    faults = ["lost-after"] if leave is State.UNKNOWN else []
    unsettled = 10_000 if leave is State.SETTLING else 0
    async with Rig(policy, url=url, world=World(faults=faults, unsettled=unsettled)) as r:
        if leave is State.GUARD:
            pause = Control(kind=ControlKind.PAUSE, scope="", reason="r", actor="a", since=START)
            await r.store.set_control(pause, AuditEvent(kind="control.paused"))
        await r.fire()
        await r.until(30 * SECOND if leave is State.HOLD else MINUTE + 10 * SECOND)
        assert (await r.run()).state is leave
        sizes, called = r.world.sizes, len(r.world.calls)
        now = r.clock.now()
    world = World(sizes=sizes, levels={"queue": 10.0})
    async with Rig(policy, url=url, world=world, start=now) as r:
        await r.store.clear_control(ControlKind.PAUSE, "", AuditEvent(kind="control.resumed"))
        await r.until(HOUR)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert called + len(r.world.calls) == 1
        assert r.world.sizes["gpu"] == 5


async def test_two_nodes_run_an_action_once() -> None:
    """st2#5923, rundeck#757, robusta#419: N nodes ran the action N times."""
    async with Rig() as r:
        other = second(r)
        await r.fire()
        await asyncio.gather(r.worker.drain(), other.drain())
        await r.until(MINUTE)
        await other.drain()
        assert len(r.world.calls) == 1


async def test_one_file_has_one_process(tmp_path: Path) -> None:
    """A workflow library: two instances with one executor id ran the same step at each restart."""
    url = f"sqlite:///{tmp_path}/store.db"
    async with Rig(url=url) as first:
        with pytest.raises(StoreUnavailable, match="held"):
            await Rig(url=url).store.open()
        assert (await first.fire()).accepted == 1


async def test_retries_survive_a_restart(tmp_path: Path) -> None:
    """StackStorm: the retry settings silently lost their retries at a restart."""
    url = f"sqlite:///{tmp_path}/store.db"
    async with Rig(url=url, world=World(faults=["throttle"] * 500)) as r:
        await r.fire()
        await r.until(MINUTE)
        before = await r.run()
        assert before.reason is Reason.TEMPORARY_FAILURE
        now = r.clock.now()
    async with Rig(url=url, start=now) as r:
        after = await r.run()
        assert after.progress.waiting_since == before.progress.waiting_since
        await r.until(2 * MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        assert len(r.world.calls) == 1


async def test_a_targets_lock_outlives_the_lease_of_its_worker() -> None:
    """A stop/continue test: two thirds of the workers that looked dead finished their action later."""
    world = World(faults=["hang"])
    async with Rig(POLICY + FREE, OTHER + FREE, limits=OPEN, world=world, apply_timeout=20) as r:
        await r.fire()
        (run,) = await r.store.claim("looks dead", 1)
        dead = asyncio.create_task(r.worker.advance(run))
        await asyncio.to_thread(wait_until, world.calling.is_set)
        await r.fire(alertname="Other")
        r.clock.set(Instant(START + MINUTE))
        await r.worker.drain()
        assert (await r.runs())[1].reason is Reason.LOCK_BUSY
        world.hold.set()
        await dead
        await r.until(10 * MINUTE)
        assert [size for _, size, _ in world.calls] == [5, 7]  # one after the other


# ---------------------------------------------------------------- bounds


async def test_a_concurrency_of_one_holds_between_nodes() -> None:
    """st2#4481: broken by a race between nodes."""
    policy = POLICY + FREE.replace("concurrent: 100", "concurrent: 1")
    async with Rig(policy, limits=OPEN, world=World(sizes=dict(MANY), unsettled=1000)) as r:
        other = second(r)
        for i in range(6):
            await r.fire(group=f"g{i}")
        await asyncio.gather(r.worker.drain(), other.drain())
        assert len(r.world.calls) == 1
        assert len(await r.store.locks()) == 1


async def test_no_burst_at_the_edge_of_a_window() -> None:
    """argo-events#2851: a burst of 11 under "3 per minute"."""
    policy = POLICY + FREE.replace("budget: [100 per 1h]", "budget: [3 per 1m]")
    async with Rig(policy, limits=OPEN, world=World(sizes=dict(MANY))) as r:
        await r.fire(group="g0")
        await r.until(58 * SECOND)
        for i in range(1, 12):
            await r.fire(group=f"g{i}")
        await r.until(10 * MINUTE)
        when = await times(r)
        assert len(when) == 12
        assert all(later - earlier >= MINUTE for earlier, later in zip(when, when[3:], strict=False))


async def test_safety_belts_are_on_by_default() -> None:
    """cloud-custodian#3641: they all have stories of policies gone awry."""
    async with Rig(POLICY.replace("mode: enforce\n", "")) as r:
        await r.fire()
        await r.until(MINUTE)
        assert (await r.run()).outcome is Outcome.OBSERVED
        assert r.world.calls == []
        with pytest.raises(ConfigurationError, match="20"):
            r.compile({"queue.yaml": POLICY.replace("add: 2", "add: 1000")})


@pytest.mark.parametrize("group", ["", "*"])
async def test_an_empty_target_selects_nothing(group: str) -> None:
    """Site Reliability Engineering, chapter 7: an empty set was read as "everything"."""
    async with Rig() as r:
        await r.fire(group=group)
        await r.until(MINUTE)
        assert (await r.run()).outcome is Outcome.REFUSED
        assert r.world.calls == []


async def test_an_absent_limit_is_the_built_in_one() -> None:
    """Robusta's pod actions: the limit's label was missing, so there was no limit."""
    async with Rig(POLICY, world=World(sizes=dict(MANY))) as r:
        for i in range(12):
            await r.fire(group=f"g{i}")
        await r.until(20 * MINUTE)
        assert len(r.world.calls) == 4  # limits.budget: 4 per 1h where none is written


async def test_a_target_is_not_acted_on_all_night() -> None:
    """descheduler#827: pods were restarted all night."""
    async with Rig(POLICY, world=World(sizes={"gpu": 1})) as r:
        for night in range(24):
            at = Instant(START + night * 20 * MINUTE)
            await r.fire(since=at, pod=str(night))
            await r.until(night * 20 * MINUTE + MINUTE)
            r.world.sizes["gpu"] = 1
        when = await times(r)
        assert all(later - earlier >= HOUR for earlier, later in zip(when, when[2:], strict=False))


# ---------------------------------------------------------------- did it help?


async def test_a_cycle_that_does_not_heal_is_told_each_time() -> None:
    """kubernaut#1090: 39 ineffective cycles, nobody was told."""
    async with Rig(POLICY + FREE + VERIFY, world=World(sizes=dict(MANY))) as r:
        for i in range(3):
            await r.fire(group=f"g{i}")
        await r.until(HOUR)
        assert {run.outcome for run in await r.runs()} == {Outcome.ESCALATED}
        assert len(await r.called()) == 3


@pytest.mark.parametrize("level", [None, float("nan")])
async def test_no_samples_are_not_health(level: float | None) -> None:
    """kubernaut#722: no samples were scored as remediated."""
    async with Rig(POLICY + VERIFY, world=World(levels={"queue": level})) as r:
        await r.fire()
        await r.until(HOUR)
        run = await r.run()
        assert (run.outcome, run.reason) == (Outcome.ESCALATED, Reason.VERIFY_UNKNOWN)


async def test_an_alert_that_looks_back_does_not_have_it_fixed_again() -> None:
    """kubernaut#368: the alert's window kept it firing after a good fix."""
    async with Rig(POLICY + VERIFY, world=World(heals={5: 10.0})) as r:
        await r.fire()
        await r.until(MINUTE)
        assert (await r.run()).outcome is Outcome.SUCCEEDED
        await r.fire()
        await r.fire(pod="b", since=Instant(START + MINUTE))
        await r.until(9 * MINUTE)
        assert (await r.runs())[-1].reason is Reason.COOLDOWN
        assert len(r.world.calls) == 1


async def test_alerts_of_one_fault_do_not_act_side_by_side() -> None:
    """kubernaut#63: different alerts for one fault started separate remediations."""
    async with Rig(POLICY + FREE, OTHER + FREE, limits=OPEN, world=World(unsettled=1000)) as r:
        await r.fire()
        await r.fire(alertname="Other")
        await r.until(10 * SECOND)
        assert len(r.world.calls) == 1
        waiting = [run.reason for run in await r.runs() if run.reason is not None]
        assert waiting == [Reason.LOCK_BUSY]  # whichever of the two came second


async def test_two_names_of_one_thing_are_one_target() -> None:
    """Design review: one machine group reached by two connection names had two locks."""
    world = World(aliases={"workers": "gpu"}, unsettled=1000)
    async with Rig(POLICY + FREE, OTHER + FREE, limits=OPEN, world=world) as r:
        await r.fire()
        await r.fire(alertname="Other", group="workers")
        await r.until(10 * SECOND)
        first, other = await r.runs()
        assert (first.target, other.target) == ("world:gpu", "world:workers")
        assert other.reason is Reason.LOCK_BUSY
        assert len(r.world.calls) == 1


def test_what_gitops_owns_is_refused_unless_the_policy_allows_it() -> None:
    """argo-cd#5351: GitOps undid the rollback."""
    given = {"connection": "c", "namespace": "jobs", "deployment": "w", "add": 1, "max": 5}
    seen = Observed(
        target=Target(name="kubernetes:c/jobs/deployment/w", key="k"),
        fields={"replicas": 2, "autoscaler": "", "managed_by": "Argo CD"},
        version="1",
    )
    with pytest.raises(Refused, match="Argo CD") as refused:
        Scale().plan(seen, ScaleParams(**given), ())
    assert refused.value.reason is Reason.MANAGED_ELSEWHERE
    plan = Scale().plan(seen, ScaleParams(**given, allow_gitops=True), ())
    assert "Argo CD" in plan.note  # type: ignore[union-attr]


async def test_two_leases_of_one_field_give_back_the_oldest_value() -> None:
    """Design review: the second one's expiry restored the first one's raised value for ever."""
    async with Rig(LEASED) as r:
        await r.fire(pod="a")
        await r.until(HOUR)
        await r.resolve(pod="a")
        await r.fire(pod="b")
        await r.until(HOUR + MINUTE)
        await r.resolve(pod="b")
        assert r.world.sizes["gpu"] == 7
        await r.until(4 * HOUR)
        assert r.world.sizes["gpu"] == 3


# ---------------------------------------------------------------- asked about afterwards


async def test_why_a_policy_did_not_act_can_be_asked() -> None:
    """st2#3355, robusta#1956: "why did my rule not fire?\""""
    async with Rig(POLICY, OTHER, world=World(sizes={"gpu": 3})) as r:
        (matched,) = (await r.fire(group="elsewhere")).alerts
        (unmatched,) = (await r.fire(alertname="Unheard")).alerts
        await r.until(MINUTE)
        said = (await explain(r.store, r.policies.revision, matched)).headline
        assert "missing_target" in said
        answer = await explain(r.store, r.policies.revision, unmatched)
        assert {near.policy for near in answer.near} == {"queue", "other"}
        assert {near.matcher for near in answer.near} == {'alertname="QueueHigh"', 'alertname="Other"'}
        assert all("Unheard" in near.observed for near in answer.near)


async def test_what_two_workers_wrote_is_sealed_in_one_order() -> None:
    """Design review: audit ids out of commit order broke a chain that was ordered by id."""
    async with Rig(POLICY + FREE, limits=OPEN, world=World(sizes=dict(MANY))) as r:
        other = second(r)
        for i in range(6):
            await r.fire(group=f"g{i}")
            await asyncio.gather(r.worker.step(), other.step(), r.store.seal())
        await r.until(MINUTE)
        await other.drain()
        head = await r.store.seal()
        report = await r.store.verify(head)
        assert report.whole
        assert (report.unsealed, report.sealed >= len(await r.events())) == (0, True)
