"""cloud_run.shift_traffic, with the real client library over gRPC, against a stateful fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.cloud import run_v2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.actions.cloud_run import ShiftTraffic, ShiftTrafficParams
from remediator.clients.connections import CallContext, Connections
from remediator.clients.gcp import GcpClient
from remediator.contracts import Nothing, Observed
from remediator.errors import ActionError, Ambiguous, Permanent, Refused, Temporary
from remediator.model import Instant, Landed, Plan, Reason, Target
from remediator.settings.connections import GcpConnection
from tests.fakes.cloud_run import PROJECT, REGION, FakeCloudRun
from tests.fakes.faults import Fault
from tests.servers.ports import free_port

ACTION = ShiftTraffic()


@pytest.fixture
def run() -> Iterator[FakeCloudRun]:
    with FakeCloudRun() as fake:
        fake.deploy("checkout", "checkout-1")
        fake.deploy("checkout", "checkout-2")
        fake.deploy("checkout", "checkout-3")
        yield fake


@contextmanager
def reaching(address: str, timeout: float = 5) -> Iterator[CallContext]:
    settings = GcpConnection(project=PROJECT, endpoints={"run": address}, timeout=timeout)
    connections = Connections({"gcp-test": settings})
    try:
        yield CallContext(connections, Instant(1_795_216_670_000))
    finally:
        connections.close()


@pytest.fixture
def context(run: FakeCloudRun) -> Iterator[CallContext]:
    with reaching(run.address) as found:
        yield found


def params(steps: Sequence[int] = (50, 100), service: str = "checkout") -> ShiftTrafficParams:
    return ShiftTrafficParams(connection="gcp-test", region=REGION, service=service, steps=tuple(steps))


def planned(context: CallContext, given: ShiftTrafficParams, *done: Plan) -> Plan:
    plan = ACTION.plan(ACTION.observe(context, given), given, done)
    assert isinstance(plan, Plan)
    return plan


def seen(traffic: dict[str, int], *revisions: str, **more: Any) -> Observed:
    target = Target(name="cloud_run:gcp-test/checkout", key="cloud_run:checkout")
    return Observed(target=target, fields={"traffic": traffic, "revisions": list(revisions), **more})


# ---------------------------------------------------------------- the path of a shift


def test_shifts_back_in_steps(run: FakeCloudRun, context: CallContext) -> None:
    first = planned(context, params())
    assert first.before == {"traffic": {"checkout-3": 100}}
    assert first.after == {"traffic": {"checkout-3": 50, "checkout-2": 50}}
    assert (first.blast.amount, first.blast.whole, first.blast.unit) == (50, 100, "percent of traffic")
    assert first.more
    assert first.target == Target(
        name="cloud_run:gcp-test/checkout",
        key=f"cloud_run:projects/{PROJECT}/locations/{REGION}/services/checkout",
    )
    evidence = ACTION.apply(context, first, "token")
    assert "/operations/" in evidence["operation"]
    assert run.serving("checkout") == {"checkout-3": 50, "checkout-2": 50}
    assert ACTION.settled(context, first).done

    second = planned(context, params(), first)
    assert second.before == first.after
    assert second.after == {"traffic": {"checkout-2": 100}}
    assert second.blast.amount == 50
    assert not second.more
    ACTION.apply(context, second, "token")
    assert run.serving("checkout") == {"checkout-2": 100}
    assert isinstance(ACTION.plan(ACTION.observe(context, params()), params(), (first, second)), Nothing)


def test_going_back_step_by_step_ends_where_it_began(run: FakeCloudRun, context: CallContext) -> None:
    """Traffic followed the latest revision before, so it must follow it again."""
    done: list[Plan] = []
    for _ in params().steps:
        done.append(planned(context, params(), *done))
        ACTION.apply(context, done[-1], "token")
    assert run.traffic("checkout") == {"checkout-2": 100}
    for plan in reversed(done):
        back = ACTION.undo(ACTION.observe(context, params()), plan)
        assert isinstance(back, Plan)
        ACTION.apply(context, back, "token")
        assert ACTION.settled(context, back).done
    assert run.traffic("checkout") == {"LATEST": 100}
    assert run.serving("checkout") == {"checkout-3": 100}


def test_a_newer_revision_does_not_get_the_traffic_by_going_back(
    run: FakeCloudRun, context: CallContext
) -> None:
    plan = planned(context, params((100,)))
    ACTION.apply(context, plan, "token")
    run.deploy("checkout", "checkout-4")
    assert run.serving("checkout") == {"checkout-2": 100}, "it is pinned"
    back = ACTION.undo(ACTION.observe(context, params((100,))), plan)
    assert isinstance(back, Plan)
    assert "pinned" in back.note
    ACTION.apply(context, back, "token")
    assert run.traffic("checkout") == {"checkout-3": 100}


def test_the_end_of_a_lease_goes_back_all_the_way(run: FakeCloudRun, context: CallContext) -> None:
    """The engine hands over the last plan with the oldest prior value."""
    first = planned(context, params())
    ACTION.apply(context, first, "token")
    second = planned(context, params(), first)
    ACTION.apply(context, second, "token")
    borrowed = msgspec.structs.replace(second, before=first.before)
    back = ACTION.undo(ACTION.observe(context, params()), borrowed)
    assert isinstance(back, Plan)
    ACTION.apply(context, back, "token")
    assert run.traffic("checkout") == {"LATEST": 100}


@pytest.mark.parametrize("honours_mask", [True, False])
def test_nothing_but_traffic_is_changed(honours_mask: bool) -> None:
    with FakeCloudRun(honours_mask=honours_mask) as run, reaching(run.address) as context:
        run.deploy("checkout", "checkout-1")
        run.deploy("checkout", "checkout-2")
        run.set_traffic("checkout", {"LATEST": 100}, tags={"preview": "checkout-1"})
        before = run.service("checkout")
        ACTION.apply(context, planned(context, params((100,))), "token")
        after = run.service("checkout")
        changed = {
            field for field in run_v2.Service.meta.fields if getattr(before, field) != getattr(after, field)
        }
        assert changed == {"traffic", "traffic_statuses", "etag", "generation", "observed_generation"}
        assert after.template.containers[0].image == "example/checkout:checkout-2"
        assert [(one.tag, one.revision) for one in after.traffic if one.tag] == [("preview", "checkout-1")]
        update = run.faults.named("UpdateService")[0].request
        assert list(update.update_mask.paths) == ["traffic"]
        assert update.service.etag == before.etag


def test_settles_when_the_service_serves_as_told(run: FakeCloudRun, context: CallContext) -> None:
    run.progress = None
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    waiting = ACTION.settled(context, plan)
    assert (waiting.done, waiting.failed) == (False, "")
    run.finish("checkout")
    assert ACTION.settled(context, plan).done


def test_a_change_that_google_could_not_carry_out_has_failed(run: FakeCloudRun, context: CallContext) -> None:
    run.progress = None
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    run.finish("checkout", failed="RoutesReady: no capacity")
    assert "no capacity" in ACTION.settled(context, plan).failed


def test_a_broken_newer_deployment_does_not_make_the_shift_a_failure(
    run: FakeCloudRun, context: CallContext
) -> None:
    """A revision that never came up leaves the service "not ready" for ever; traffic moves all the same."""
    run.deploy("checkout", "checkout-4", ready=False)
    plan = planned(context, params((100,)))
    assert plan.after == {"traffic": {"checkout-2": 100}}
    run.progress = None
    ACTION.apply(context, plan, "token")
    run.finish("checkout")
    run.finish("checkout", failed="Ready: revision checkout-4 is not ready")
    assert ACTION.settled(context, plan).done


# ---------------------------------------------------------------- which revision


def test_a_canary_goes_back_to_what_it_was_rolled_out_over(run: FakeCloudRun, context: CallContext) -> None:
    run.set_traffic("checkout", {"checkout-3": 10, "checkout-2": 90})
    plan = planned(context, params())
    assert plan.after == {"traffic": {"checkout-3": 5, "checkout-2": 95}}
    assert plan.blast.amount == 5


def test_revisions_that_are_not_ready_are_passed_over(context: CallContext, run: FakeCloudRun) -> None:
    run.deploy("checkout", "checkout-4", ready=False)
    run.deploy("checkout", "checkout-5")
    plan = planned(context, params())
    assert plan.after == {"traffic": {"checkout-5": 50, "checkout-3": 50}}


def test_revisions_newer_than_the_one_with_traffic_are_left_alone(
    run: FakeCloudRun, context: CallContext
) -> None:
    run.set_traffic("checkout", {"checkout-2": 100})
    plan = planned(context, params((100,)))
    assert plan.after == {"traffic": {"checkout-1": 100}}


def test_the_oldest_revision_has_nothing_before_it(run: FakeCloudRun, context: CallContext) -> None:
    run.deploy("single", "single-1")
    found = ACTION.plan(ACTION.observe(context, params(service="single")), params(service="single"), ())
    assert isinstance(found, Nothing)
    assert "no ready revision before single-1" in found.why


def test_a_service_that_never_came_up_has_nothing_to_move(run: FakeCloudRun, context: CallContext) -> None:
    run.deploy("broken", "broken-1", ready=False)
    found = ACTION.plan(ACTION.observe(context, params(service="broken")), params(service="broken"), ())
    assert isinstance(found, Nothing)


def test_many_revisions_are_listed_page_by_page_and_kept_short(
    run: FakeCloudRun, context: CallContext
) -> None:
    for number in range(4, 40):
        run.deploy("checkout", f"checkout-{number}")
    observed = ACTION.observe(context, params())
    assert observed.fields["revisions"] == [f"checkout-{number}" for number in range(39, 19, -1)]


@given(
    shares=st.lists(st.integers(1, 100), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 100), min_size=1, max_size=10, unique=True).map(sorted),
)
def test_every_step_moves_only_from_one_to_the_other(shares: list[int], steps: list[int]) -> None:
    total = sum(shares)
    percents = [share * 100 // total for share in shares]
    percents[-1] += 100 - sum(percents)
    traffic = {f"r{number}": percent for number, percent in enumerate(percents) if percent}
    revisions = [f"r{number}" for number in range(5)]
    first = next(one for one in revisions if one in traffic)
    to = revisions[revisions.index(first) + 1]
    given, done, present = params(steps), [], traffic
    while True:
        plan = ACTION.plan(seen(present, *revisions), given, done)
        assert isinstance(plan, Plan)
        after = plan.after["traffic"]
        assert sum(after.values()) == 100
        assert {key for key in {*after, *present} if after.get(key) != present.get(key)} == {first, to}
        assert after.get(first, 0) < present[first]
        done.append(plan)
        present = after
        if not plan.more:
            break
    assert len(done) <= len(steps)
    assert present.get(first, 0) == traffic[first] - -(-traffic[first] * steps[-1] // 100)
    assert isinstance(ACTION.plan(seen(present, *revisions), given, done), Nothing)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (100, 50)},
        {"steps": (50, 50)},
        {"steps": (0, 100)},
        {"steps": (101,)},
        {"steps": ("50",)},
        {"region": "us-central1/services/x"},
        {"region": ""},
        {"service": "Checkout"},
        {"service": "a/b"},
        {"service": "checkout\n"},
        {"service": "c" * 50},
    ],
)
def test_parameters_out_of_bounds_are_refused_by_the_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShiftTrafficParams(**({"connection": "g", "region": REGION, "service": "checkout"} | wrong))


# ---------------------------------------------------------------- other people


def test_traffic_changed_between_two_steps_is_noticed(run: FakeCloudRun, context: CallContext) -> None:
    first = planned(context, params())
    ACTION.apply(context, first, "token")
    run.set_traffic("checkout", {"checkout-1": 100})
    observed = ACTION.observe(context, params())
    with pytest.raises(Refused) as caught:
        ACTION.plan(observed, params(), (first,))
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    assert caught.value.observed == "checkout-1 100%"
    assert ACTION.landed(observed, first) is Landed.UNCLEAR
    with pytest.raises(Refused):
        ACTION.undo(observed, first)
    assert "checkout-1 100%" in ACTION.settled(context, first).failed


def test_a_change_before_the_call_is_noticed(run: FakeCloudRun, context: CallContext) -> None:
    plan = planned(context, params())
    run.relabel("checkout")
    with pytest.raises(Refused) as caught:
        ACTION.apply(context, plan, "token")
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    assert run.faults.named("UpdateService") == []


def test_a_change_between_reading_and_writing_is_refused_by_google(
    run: FakeCloudRun, context: CallContext
) -> None:
    plan = planned(context, params())
    run.faults.add(Fault("UpdateService", "ABORTED", text="Conflict for resource: version was changed"))
    with pytest.raises(Refused) as caught:
        ACTION.apply(context, plan, "token")
    assert caught.value.reason is Reason.CHANGED_BY_PERSON


def test_a_stale_etag_is_refused_by_the_service_itself(run: FakeCloudRun, context: CallContext) -> None:
    """Nothing but the etag that is sent keeps a plan from undoing what came after it."""
    plan = planned(context, params())
    stale = run.service("checkout")
    run.relabel("checkout")
    client = context.client(GcpClient, "gcp-test").run._client("services")
    with pytest.raises(Exception, match="version was changed"):
        client.update_service(request={"service": stale, "update_mask": {"paths": ["traffic"]}}, retry=None)
    assert plan.version == stale.etag


def test_a_service_that_is_being_changed_is_waited_for(run: FakeCloudRun, context: CallContext) -> None:
    run.busy("checkout")
    plan = planned(context, params())
    with pytest.raises(Temporary, match="being changed"):
        ACTION.apply(context, plan, "token")
    run.finish("checkout")
    ACTION.apply(context, planned(context, params()), "token")


def test_going_back_does_not_wait_for_a_shift_that_hangs(run: FakeCloudRun, context: CallContext) -> None:
    run.progress = None
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    back = ACTION.undo(ACTION.observe(context, params()), plan)
    assert isinstance(back, Plan)
    ACTION.apply(context, back, "token")
    run.finish("checkout")
    assert run.serving("checkout") == {"checkout-3": 100}


# ---------------------------------------------------------------- what can go wrong


def test_an_unknown_service_is_named(context: CallContext) -> None:
    with pytest.raises(Permanent, match=r"NOT_FOUND.*services/nowhere"):
        ACTION.observe(context, params(service="nowhere"))


def test_a_revision_that_is_gone_is_permanent(run: FakeCloudRun, context: CallContext) -> None:
    plan = planned(context, params())
    gone = msgspec.structs.replace(plan, after={"traffic": {"checkout-0": 100}})
    with pytest.raises(Permanent, match=r"FAILED_PRECONDITION.*checkout-0"):
        ACTION.apply(context, gone, "token")


def test_nobody_listens() -> None:
    with reaching(f"127.0.0.1:{free_port()}", timeout=0.5) as context:
        with pytest.raises(Temporary, match="UNAVAILABLE"):
            ACTION.observe(context, params())
        with pytest.raises(Temporary, match="no connection"):
            context.client(GcpClient, "gcp-test").identity()


def test_a_server_that_went_away_before_the_call_was_provably_not_reached() -> None:
    with FakeCloudRun() as run, reaching(run.address, timeout=0.5) as context:
        run.deploy("checkout", "checkout-1")
        run.deploy("checkout", "checkout-2")
        plan = planned(context, params())
        run.close()
        with pytest.raises(Temporary, match="UNAVAILABLE"):
            ACTION.apply(context, plan, "token")


def test_without_credentials_nothing_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    connections = Connections({"gcp-test": GcpConnection(project=PROJECT)})
    context = CallContext(connections, Instant(1_795_216_670_000))
    with pytest.raises(Permanent, match="no credentials"):
        ACTION.observe(context, params())
    with pytest.raises(Permanent, match="no credentials"):
        context.client(GcpClient, "gcp-test").identity()
    connections.close()


def test_the_project_is_the_identity(context: CallContext) -> None:
    assert context.client(GcpClient, "gcp-test").identity() == PROJECT


WRONG: list[tuple[str, type[ActionError], type[ActionError]]] = [
    ("RESOURCE_EXHAUSTED", Temporary, Temporary),
    ("PERMISSION_DENIED", Permanent, Permanent),
    ("UNAUTHENTICATED", Permanent, Permanent),
    ("NOT_FOUND", Permanent, Permanent),
    ("INVALID_ARGUMENT", Permanent, Permanent),
    ("FAILED_PRECONDITION", Permanent, Permanent),
    ("UNAVAILABLE", Temporary, Ambiguous),
    ("INTERNAL", Temporary, Ambiguous),
    ("UNKNOWN", Temporary, Ambiguous),
    ("DEADLINE_EXCEEDED", Temporary, Ambiguous),
    ("CANCELLED", Temporary, Ambiguous),
    ("hang", Temporary, Ambiguous),
]


@pytest.mark.parametrize(("answer", "reading", "changing"), WRONG)
def test_each_failure_has_its_kind(
    run: FakeCloudRun, answer: str, reading: type[ActionError], changing: type[ActionError]
) -> None:
    with reaching(run.address, timeout=0.5) as context:
        plan = planned(context, params())
        calls: list[tuple[str, type[ActionError], Callable[[], object]]] = [
            ("GetService", reading, lambda: ACTION.observe(context, params())),
            ("ListRevisions", reading, lambda: ACTION.observe(context, params())),
            ("UpdateService", changing, lambda: ACTION.apply(context, plan, "token")),
        ]
        for name, kind, call in calls:
            before = len(run.faults.named(name))
            run.faults.add(Fault(name, answer))
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
            assert "gcp:gcp-test" in str(caught.value)
            assert len(run.faults.named(name)) == before + 1, "the library must not repeat it"
    assert run.traffic("checkout") == {"LATEST": 100}


def test_a_call_that_was_carried_out_without_an_answer_is_found_by_looking(
    run: FakeCloudRun, context: CallContext
) -> None:
    plan = planned(context, params())
    run.progress = None
    run.faults.add(Fault("UpdateService", "UNAVAILABLE", applies=True))
    with pytest.raises(Ambiguous):
        ACTION.apply(context, plan, "token")
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.APPLIED
    assert not ACTION.settled(context, plan).done
    run.finish("checkout")
    assert ACTION.settled(context, plan).done


def test_a_late_call_does_not_overwrite_what_came_after(run: FakeCloudRun, context: CallContext) -> None:
    plan = planned(context, params())
    run.faults.add(Fault("UpdateService", "UNAVAILABLE", applies=True, late=0.2))
    with pytest.raises(Ambiguous):
        ACTION.apply(context, plan, "token")
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.NOT_APPLIED
    run.set_traffic("checkout", {"checkout-1": 100})
    run.faults.hang(0.4)
    assert run.traffic("checkout") == {"checkout-1": 100}


def test_a_call_issued_again_does_not_act_twice(run: FakeCloudRun, context: CallContext) -> None:
    """The first one lands late, after the second: its etag is stale by then."""
    plan = planned(context, params())
    run.faults.add(Fault("UpdateService", "UNAVAILABLE", applies=True, late=0.3))
    with pytest.raises(Ambiguous):
        ACTION.apply(context, plan, "token")
    ACTION.apply(context, plan, "token")
    etag = run.service("checkout").etag
    run.faults.hang(0.5)
    assert run.service("checkout").etag == etag
    assert run.traffic("checkout") == {"checkout-3": 50, "checkout-2": 50}
