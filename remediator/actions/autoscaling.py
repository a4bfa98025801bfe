"""Auto Scaling groups of AWS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from remediator.clients.aws import AwsClient
from remediator.contracts import (
    Action,
    ConnectionOf,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.errors import Permanent, Refused
from remediator.model import MINUTE, Blast, Landed, Millis, Plan, Reason, Risk, Target

GROUP = r"[A-Za-z0-9][A-Za-z0-9_./-]{0,254}"


class SetCapacityParams(Params):
    """Parameters of `autoscaling.set_capacity`."""

    connection: Annotated[str, ConnectionOf("aws")]
    group: Annotated[str, Selector(GROUP), StringConstraints(pattern=f"^{GROUP}$")]
    """The Auto Scaling group's name."""
    add: Annotated[int, Field(strict=True, ge=1, le=10)]
    """How many instances to add."""
    max: Annotated[int, Field(strict=True, ge=1, le=100)]
    """Never more instances than this, whatever the group itself allows."""


class SetCapacity(Action[SetCapacityParams]):
    """Adds instances to an Auto Scaling group, within its own bounds and the policy's.

    Source of facts: Amazon EC2 Auto Scaling API Reference, SetDesiredCapacity and
    DescribeAutoScalingGroups; User Guide, "Suspend and resume processes".
    """

    name = "autoscaling.set_capacity"
    summary = "Add instances to an Auto Scaling group of AWS, up to a maximum"
    params = SetCapacityParams
    risk = Risk.REVERSIBLE
    # SetDesiredCapacity takes neither a token nor a version. It sets an absolute number, so doing it
    # twice is doing it once; but it could overwrite what a person has set in between.
    idempotency = Idempotency("probe")
    # AWS refuses a request whose signature is older than five minutes (IAM User Guide, "Signature
    # Version 4 for API requests"), so a lost call cannot land later than that; a minute
    # more for the reads before it.
    landing_time = Millis(6 * MINUTE)
    settle_time = Millis(15 * MINUTE)
    blast_unit = "instances"
    fields = ("desired",)
    permissions = (
        Permission("aws", "autoscaling:DescribeAutoScalingGroups", "read the group's size and bounds"),
        Permission("aws", "autoscaling:SetDesiredCapacity", "change the group's size"),
    )
    example = {
        "action": "autoscaling.set_capacity",
        "with": {"connection": "aws-prod", "group": "prod-gpu-workers", "add": 2, "max": 10},
    }

    def target_name(self, params: SetCapacityParams) -> str:
        return f"autoscaling:{params.connection}/{params.group}"

    def observe(self, context: Context, params: SetCapacityParams) -> Observed:
        client = context.client(AwsClient, params.connection)
        group = _group(client, params.group)
        return Observed(
            target=Target(
                name=self.target_name(params), key=f"autoscaling:{client.identity()}/{params.group}"
            ),
            fields={
                "desired": group["DesiredCapacity"],
                "min": group["MinSize"],
                "max": group["MaxSize"],
                "in_service": _in_service(group),
                "suspended": sorted(process["ProcessName"] for process in group["SuspendedProcesses"]),
            },
        )

    def plan(self, observed: Observed, params: SetCapacityParams, done: Sequence[Plan]) -> Plan | Nothing:
        desired, low, high = (int(observed.fields[field]) for field in ("desired", "min", "max"))
        whole = min(params.max, high)
        wanted = desired + params.add
        to = min(wanted, whole)
        if to <= desired:
            bound = "the policy's max" if params.max <= high else "the group's MaxSize"
            return Nothing(
                why=f"{observed.target.name} has {desired} instances and {bound} allows {whole}: none to add"
            )
        if "Launch" in observed.fields.get("suspended", ()):
            return Nothing(
                why=f"{observed.target.name} has its Launch process suspended: no instance would start"
            )
        if to < low:  # only while somebody is moving the group's bounds; AWS would refuse it
            return Nothing(
                why=f"{observed.target.name} must have at least {low} instances, {to} would be fewer"
            )
        notes = []
        if to < wanted:
            notes.append(
                f"{wanted} wanted, held at {whole} by max {params.max} and the group's MaxSize {high}"
            )
        return self._plan(observed, params, desired, to, whole, "; ".join(notes))

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        params = self.params.model_validate(plan.params)
        client = context.client(AwsClient, params.connection)
        # The API has no condition. Reading right before narrows the gap to milliseconds.
        present = _group(client, params.group)["DesiredCapacity"]
        if present != plan.before["desired"]:
            raise _changed(plan, present, plan.before["desired"])
        client.change(
            "autoscaling",
            "set_desired_capacity",
            AutoScalingGroupName=params.group,
            DesiredCapacity=plan.after["desired"],
            HonorCooldown=False,
        )
        return {"desired": plan.after["desired"]}

    def settled(self, context: Context, plan: Plan) -> Settled:
        params = self.params.model_validate(plan.params)
        group = _group(context.client(AwsClient, params.connection), params.group)
        wanted = plan.after["desired"]
        if group["DesiredCapacity"] != wanted:
            present = group["DesiredCapacity"]
            return Settled(
                done=False, failed=f"desired capacity is {present}, no longer the {wanted} that was set"
            )
        serving = _in_service(group)
        # Going down is finished when no more than the wanted ones serve; going up, when that many do.
        growing = wanted >= plan.before["desired"]
        done = serving >= wanted if growing else serving <= wanted
        return Settled(done=done, detail={"in_service": serving, "desired": wanted})

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        present = observed.fields["desired"]
        if present == plan.after["desired"]:
            return Landed.APPLIED
        return Landed.NOT_APPLIED if present == plan.before["desired"] else Landed.UNCLEAR

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        present, former = observed.fields["desired"], plan.before["desired"]
        if present == former:
            return Nothing(why=f"{observed.target.name} has {former} instances again already")
        if present != plan.after["desired"]:
            raise _changed(plan, present, plan.after["desired"])
        params = self.params.model_validate(plan.params)
        low, high = observed.fields["min"], observed.fields["max"]
        to = max(low, min(former, high))
        if to == present:
            return Nothing(
                why=f"{observed.target.name} is held at {present} by its MinSize {low}, MaxSize {high}"
            )
        note = f"going back to {former}"
        if to != former:
            note += f", held at {to} by the group's MinSize {low}, MaxSize {high}"
        return self._plan(observed, params, present, to, min(params.max, high), note)

    def _plan(
        self, observed: Observed, params: SetCapacityParams, desired: int, to: int, whole: int, note: str
    ) -> Plan:
        return Plan(
            action=self.name,
            target=observed.target,
            before={"desired": desired},
            after={"desired": to},
            blast=Blast(amount=abs(to - desired), whole=whole, unit=self.blast_unit),
            params=params.model_dump(mode="json"),
            note=note,
        )


def _group(client: AwsClient, name: str) -> dict[str, Any]:
    answer = client.read("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[name])
    groups: list[dict[str, Any]] = answer["AutoScalingGroups"]
    if not groups:  # an unknown name is answered with an empty list, not with an error
        raise Permanent(
            f"aws:{client.name}: no Auto Scaling group is named {name!r} in {client.account}/{client.region}"
        )
    if groups[0].get("Status"):  # set only while it is being deleted
        raise Permanent(f"aws:{client.name}: the Auto Scaling group {name!r} is being deleted")
    return groups[0]


def _in_service(group: dict[str, Any]) -> int:
    return sum(1 for instance in group["Instances"] if instance["LifecycleState"] == "InService")


def _changed(plan: Plan, present: int, expected: int) -> Refused:
    return Refused(
        Reason.CHANGED_BY_PERSON,
        f"{plan.target.name}: desired capacity is {present}, not the {expected} that was expected: "
        "somebody else changed it",
        observed=f"desired={present}",
        allowed=f"desired={expected}",
    )
