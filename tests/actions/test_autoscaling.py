"""autoscaling.set_capacity, with the real SDK, against moto over HTTP. Moto takes any capacity, so the
bounds seen here are the action's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.actions.autoscaling import SetCapacity, SetCapacityParams
from remediator.clients.aws import THROTTLED, AwsClient
from remediator.clients.connections import CallContext, Connections
from remediator.contracts import Nothing, Observed
from remediator.errors import ActionError, Ambiguous, Permanent, Refused, Temporary
from remediator.model import Instant, Landed, Plan, Reason, Target
from remediator.settings.connections import AwsConnection
from tests.fakes.aws import FaultyAws
from tests.fakes.faults import Fault
from tests.servers.moto import ACCOUNT, CREDENTIALS, Moto
from tests.servers.ports import free_port

REGION = "us-east-1"
ACTION = SetCapacity()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own chain finds these first."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


class Group:
    """One Auto Scaling group at moto, as a person with the console has it."""

    def __init__(self, moto: Moto, low: int, desired: int, high: int) -> None:
        self.api = boto3.client("autoscaling", region_name=REGION, endpoint_url=moto.url, **CREDENTIALS)
        self.name = f"workers-{uuid.uuid4().hex[:8]}"
        self.api.create_launch_configuration(
            LaunchConfigurationName=self.name, ImageId="ami-12c6146b", InstanceType="t3.micro"
        )
        self.api.create_auto_scaling_group(
            AutoScalingGroupName=self.name,
            LaunchConfigurationName=self.name,
            MinSize=low,
            DesiredCapacity=desired,
            MaxSize=high,
            AvailabilityZones=[f"{REGION}a"],
        )

    @property
    def desired(self) -> int:
        found = self.api.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return int(found["AutoScalingGroups"][0]["DesiredCapacity"])

    def set(self, desired: int) -> None:
        self.api.set_desired_capacity(AutoScalingGroupName=self.name, DesiredCapacity=desired)


@contextmanager
def reaching(url: str, **changes: Any) -> Iterator[CallContext]:
    values = {"region": REGION, "account": ACCOUNT, "endpoint_url": url, "timeout": 5} | changes
    connections = Connections({"aws-test": AwsConnection(**values)})
    try:
        yield CallContext(connections, Instant(1_795_216_670_000))
    finally:
        connections.close()


@pytest.fixture
def context(moto_server: Moto) -> Iterator[CallContext]:
    with reaching(moto_server.url) as found:
        yield found


@pytest.fixture
def aws(moto_server: Moto) -> Iterator[FaultyAws]:
    with FaultyAws(moto_server.url) as found:
        yield found


def params(group: str, add: int = 2, max: int = 10) -> SetCapacityParams:
    return SetCapacityParams(connection="aws-test", group=group, add=add, max=max)


def planned(context: CallContext, given: SetCapacityParams) -> Plan:
    plan = ACTION.plan(ACTION.observe(context, given), given, ())
    assert isinstance(plan, Plan)
    return plan


def seen(desired: int, low: int = 1, high: int = 10, **more: Any) -> Observed:
    target = Target(name="autoscaling:aws-test/w", key="autoscaling:1/r/w")
    return Observed(target=target, fields={"desired": desired, "min": low, "max": high, **more})


# ---------------------------------------------------------------- the path of one change


def test_adds_instances_waits_for_them_and_goes_back(moto_server: Moto, context: CallContext) -> None:
    group = Group(moto_server, 1, 3, 10)
    given = params(group.name)
    plan = planned(context, given)
    assert (plan.before, plan.after) == ({"desired": 3}, {"desired": 5})
    assert (plan.blast.amount, plan.blast.whole, plan.blast.unit) == (2, 10, "instances")
    assert plan.target == Target(
        name=f"autoscaling:aws-test/{group.name}", key=f"autoscaling:{ACCOUNT}/{REGION}/{group.name}"
    )
    assert ACTION.landed(ACTION.observe(context, given), plan) is Landed.NOT_APPLIED

    ACTION.apply(context, plan, "token")
    assert group.desired == 5
    assert ACTION.settled(context, plan).done
    assert ACTION.landed(ACTION.observe(context, given), plan) is Landed.APPLIED

    back = ACTION.undo(ACTION.observe(context, given), plan)
    assert isinstance(back, Plan)
    assert (back.before, back.after) == ({"desired": 5}, {"desired": 3})
    ACTION.apply(context, back, "token")
    assert group.desired == 3
    assert ACTION.settled(context, back).done


def test_never_beyond_the_groups_own_maximum(moto_server: Moto, context: CallContext) -> None:
    group = Group(moto_server, 1, 3, 4)
    plan = planned(context, params(group.name, add=5, max=10))
    assert plan.after == {"desired": 4}
    assert "MaxSize 4" in plan.note
    assert plan.blast.whole == 4


def test_never_beyond_the_policys_maximum(context: CallContext, moto_server: Moto) -> None:
    plan = planned(context, params(Group(moto_server, 1, 3, 100).name, add=10, max=6))
    assert plan.after == {"desired": 6}
    assert "max 6" in plan.note


@pytest.mark.parametrize(
    ("desired", "high", "limit", "why"),
    [(10, 10, 20, "MaxSize allows 10"), (6, 10, 6, "the policy's max allows 6"), (8, 10, 6, "allows 6")],
)
def test_nothing_to_do_at_the_bound(desired: int, high: int, limit: int, why: str) -> None:
    plan = ACTION.plan(seen(desired, 1, high), params("w", 2, limit), ())
    assert isinstance(plan, Nothing)
    assert why in plan.why


@given(
    desired=st.integers(0, 200),
    low=st.integers(0, 100),
    span=st.integers(0, 100),
    add=st.integers(1, 10),
    limit=st.integers(1, 100),
)
def test_every_plan_is_within_every_bound(desired: int, low: int, span: int, add: int, limit: int) -> None:
    plan = ACTION.plan(seen(desired, low, low + span), params("w", add, limit), ())
    if isinstance(plan, Nothing):
        assert desired >= min(limit, low + span) or desired + add < low or min(limit, low + span) < low
        return
    to = plan.after["desired"]
    assert desired < to <= desired + add
    assert low <= to <= min(limit, low + span)
    assert plan.blast.amount == to - desired


def test_a_group_that_may_not_launch_is_left_alone(moto_server: Moto, context: CallContext) -> None:
    group = Group(moto_server, 1, 3, 10)
    group.api.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=["Launch"])
    given = params(group.name)
    plan = ACTION.plan(ACTION.observe(context, given), given, ())
    assert isinstance(plan, Nothing)
    assert "Launch" in plan.why


@pytest.mark.parametrize(
    "wrong", [{"add": 0}, {"add": -1}, {"add": 11}, {"add": "2"}, {"max": 101}, {"max": 0}]
)
def test_amounts_out_of_bounds_are_refused_by_the_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SetCapacityParams(**({"connection": "aws-test", "group": "w", "add": 2, "max": 10} | wrong))


@pytest.mark.parametrize("name", ["", "*", "a b", "a\nb", "$(reboot)", "arn:aws:x", "-w", "w" * 256])
def test_a_group_is_named_plainly(name: str) -> None:
    with pytest.raises(ValidationError):
        params(name)


# ---------------------------------------------------------------- other people


def test_a_change_by_a_person_before_the_call_is_noticed(moto_server: Moto, context: CallContext) -> None:
    group = Group(moto_server, 1, 3, 10)
    plan = planned(context, params(group.name))
    group.set(7)
    with pytest.raises(Refused) as caught:
        ACTION.apply(context, plan, "token")
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    assert (caught.value.observed, caught.value.allowed) == ("desired=7", "desired=3")
    assert group.desired == 7
    assert ACTION.landed(ACTION.observe(context, params(group.name)), plan) is Landed.UNCLEAR


def test_a_change_by_a_person_is_not_undone(moto_server: Moto, context: CallContext) -> None:
    group = Group(moto_server, 1, 3, 10)
    plan = planned(context, params(group.name))
    ACTION.apply(context, plan, "token")
    group.set(8)
    observed = ACTION.observe(context, params(group.name))
    with pytest.raises(Refused) as caught:
        ACTION.undo(observed, plan)
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    settled = ACTION.settled(context, plan)
    assert not settled.done
    assert "8" in settled.failed


def test_going_back_keeps_within_bounds_that_moved_since() -> None:
    plan = ACTION.plan(seen(3), params("w"), ())
    assert isinstance(plan, Plan)
    raised = ACTION.undo(seen(5, low=4), plan)
    assert isinstance(raised, Plan)
    assert raised.after == {"desired": 4}
    assert "MinSize 4" in raised.note
    assert isinstance(ACTION.undo(seen(5, low=5), plan), Nothing)
    assert isinstance(ACTION.undo(seen(3), plan), Nothing)


# ---------------------------------------------------------------- what can go wrong


def test_an_unknown_group_is_named(context: CallContext) -> None:
    with pytest.raises(Permanent, match=f"nowhere.*{ACCOUNT}/{REGION}"):
        ACTION.observe(context, params("nowhere"))


def test_credentials_of_another_account_touch_nothing(moto_server: Moto, aws: FaultyAws) -> None:
    group = Group(moto_server, 1, 3, 10)
    with reaching(aws.url, account="999999999999") as context:
        with pytest.raises(Permanent, match=f"{ACCOUNT}.*999999999999"):
            ACTION.observe(context, params(group.name))
    assert [call.name for call in aws.calls] == ["GetCallerIdentity"]


def test_the_account_is_asked_for_once(moto_server: Moto, aws: FaultyAws) -> None:
    group = Group(moto_server, 1, 3, 10)
    with reaching(aws.url) as context:
        for _ in range(3):
            ACTION.observe(context, params(group.name))
        assert context.client(AwsClient, "aws-test").identity() == f"{ACCOUNT}/{REGION}"
    assert len(aws.faults.named("GetCallerIdentity")) == 1


def test_an_unknown_profile_is_named() -> None:
    with reaching("http://127.0.0.1:1", profile="no-such-profile") as context:
        with pytest.raises(Permanent, match="no-such-profile"):
            context.client(AwsClient, "aws-test")


def test_nobody_listens() -> None:
    with reaching(f"http://127.0.0.1:{free_port()}") as context:
        with pytest.raises(Temporary, match="no connection"):
            ACTION.observe(context, params("w"))


WRONG: list[tuple[Fault, type[ActionError], type[ActionError]]] = [
    (Fault("", 400, text="Throttling: Rate exceeded"), Temporary, Temporary),
    (Fault("", 503, text="RequestLimitExceeded: Rate exceeded"), Temporary, Temporary),
    (Fault("", 403, text="AccessDenied: not authorized"), Permanent, Permanent),
    (Fault("", 400, text="ValidationError: no such thing"), Permanent, Permanent),
    (Fault("", 400, text="ScalingActivityInProgress: busy"), Temporary, Temporary),
    (Fault("", 500, text="ResourceContention: pending update"), Temporary, Temporary),
    (Fault("", 500, text="InternalFailure: sorry"), Temporary, Ambiguous),
    (Fault("", 503, text="ServiceUnavailable: sorry"), Temporary, Ambiguous),
    (Fault("", "reset"), Temporary, Ambiguous),
    (Fault("", "hang"), Temporary, Ambiguous),
]


@pytest.mark.parametrize(
    ("fault", "reading", "changing"),
    WRONG,
    ids=[f"{fault.answer}-{fault.text[:12]}" for fault, _, _ in WRONG],
)
def test_each_failure_has_its_kind(
    moto_server: Moto,
    aws: FaultyAws,
    fault: Fault,
    reading: type[ActionError],
    changing: type[ActionError],
) -> None:
    group = Group(moto_server, 1, 3, 10)
    with reaching(aws.url, timeout=0.4) as context:
        plan = planned(context, params(group.name))
        calls: list[tuple[str, type[ActionError], Callable[[], object]]] = [
            ("DescribeAutoScalingGroups", reading, lambda: ACTION.observe(context, params(group.name))),
            ("SetDesiredCapacity", changing, lambda: ACTION.apply(context, plan, "token")),
        ]
        for operation, kind, call in calls:
            before = len(aws.faults.named(operation))
            aws.faults.add(Fault(operation, fault.answer, text=fault.text))
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
            assert "aws:aws-test" in str(caught.value)
            assert "testing" not in str(caught.value)  # the secret key
            assert len(aws.faults.named(operation)) == before + 1, "the SDK must not repeat it"
    assert group.desired == 3


def test_a_call_that_was_carried_out_without_an_answer_is_found_by_looking(
    moto_server: Moto, aws: FaultyAws
) -> None:
    group = Group(moto_server, 1, 3, 10)
    with reaching(aws.url) as context:
        plan = planned(context, params(group.name))
        aws.faults.add(Fault("SetDesiredCapacity", "reset", applies=True))
        with pytest.raises(Ambiguous):
            ACTION.apply(context, plan, "token")
        assert ACTION.landed(ACTION.observe(context, params(group.name)), plan) is Landed.APPLIED
    assert len(aws.faults.named("SetDesiredCapacity")) == 1


def test_what_the_sdk_calls_throttling_is_throttling() -> None:
    from botocore.retries.standard import ThrottledRetryableChecker

    assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) <= THROTTLED


def test_no_secret_in_repr(context: CallContext) -> None:
    assert "testing" not in repr(context.client(AwsClient, "aws-test"))
