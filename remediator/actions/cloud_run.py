"""Services of Google Cloud Run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from remediator.clients.cloud_run import Revision, Service, Shares
from remediator.clients.gcp import GcpClient
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
from remediator.errors import Refused
from remediator.model import MINUTE, Blast, Landed, Millis, Plan, Reason, Risk, Target

REGION = r"[a-z]{2,20}-[a-z]{2,20}[0-9]{1,2}"
SERVICE = r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?"
LISTED = 20
"""At most so many revisions in an observation."""


class ShiftTrafficParams(Params):
    """Parameters of `cloud_run.shift_traffic`."""

    connection: Annotated[str, ConnectionOf("gcp")]
    region: Annotated[str, Selector(REGION), StringConstraints(pattern=f"^{REGION}$")]
    """Such as us-central1."""
    service: Annotated[str, Selector(SERVICE), StringConstraints(pattern=f"^{SERVICE}$")]
    """The service's name."""
    steps: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=100)], ...], Field(min_length=1, max_length=10)
    ] = (50, 100)
    """How much of the revision's share has moved after each step, in percent."""

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"steps must rise, such as (50, 100); {steps} do not")
        return steps


class ShiftTraffic(Action[ShiftTrafficParams]):
    """Moves the share of the newest revision that gets traffic to the revision before it, step by step.

    The newest one that gets traffic is the last thing that was changed, also while it is still a canary.
    The one before it is the newest older revision that is ready. Everything else of the service stays.
    Traffic that followed the newest revision is pinned by this, so later deployments get none until it
    follows again, which going back restores.
    Source of facts: Cloud Run Admin API v2, Service (traffic, trafficStatuses, etag, reconciling),
    Revision (conditions); Cloud Run documentation, "Rollbacks, gradual rollouts, and traffic migration".
    """

    name = "cloud_run.shift_traffic"
    summary = "Move traffic of a Cloud Run service back to the previous revision, in steps"
    params = ShiftTrafficParams
    risk = Risk.REVERSIBLE
    idempotency = Idempotency("conditional")
    # Google states no bound; the service's own deadline for a call is well under this, and what lands
    # late carries an etag that must still be the present one.
    landing_time = Millis(5 * MINUTE)
    blast_unit = "percent of traffic"
    fields = ("traffic",)
    permissions = (
        Permission("gcp", "run.services.get", "read the service's traffic"),
        Permission("gcp", "run.revisions.list", "find the revision before the present one"),
        Permission("gcp", "run.services.update", "change the service's traffic"),
        Permission("gcp", "run.operations.get", "the update's long-running operation"),
        Permission(
            "gcp", "iam.serviceAccounts.actAs", "updating a service needs it on the service's own account"
        ),
    )
    example = {
        "action": "cloud_run.shift_traffic",
        "with": {
            "connection": "gcp-prod",
            "region": "${labels.location}",
            "service": "${labels.service_name}",
            "steps": [50, 100],
        },
    }

    def target_name(self, params: ShiftTrafficParams) -> str:
        return f"cloud_run:{params.connection}/{params.service}"

    def observe(self, context: Context, params: ShiftTrafficParams) -> Observed:
        run = context.client(GcpClient, params.connection).run
        service = run.service(params.region, params.service)
        revisions = run.revisions(params.region, params.service)
        return Observed(
            target=Target(name=self.target_name(params), key=f"cloud_run:{service.name}"),
            fields={
                "traffic": service.traffic,
                "latest": service.latest,
                "follows": service.follows,
                **_candidates(service, revisions),
            },
            version=service.etag,
        )

    def plan(self, observed: Observed, params: ShiftTrafficParams, done: Sequence[Plan]) -> Plan | Nothing:
        name, traffic = observed.target.name, _shares(observed.fields["traffic"])
        if done:
            start, left = done[0].detail, _shares(done[-1].after["traffic"])
            if traffic != left:
                raise _changed(name, traffic, left)
        else:
            found = _start(observed)
            if isinstance(found, Nothing):
                return found
            start = found
        source, to, former = start["from"], start["to"], _shares(start["traffic"])
        # How much has moved after each step, rounded up; steps that move nothing more are passed over.
        goals = [-(-former[source] * step // 100) for step in params.steps]
        ahead = [goal for goal in goals if goal > former[source] - traffic.get(source, 0)]
        if not ahead:
            return Nothing(why=f"{name}: what was to be moved from {source} to {to} has moved")
        after = {**former, source: former[source] - ahead[0], to: former.get(to, 0) + ahead[0]}
        note = f"step {goals.index(ahead[0]) + 1} of {len(goals)}: {source} → {to}"
        if start["followed"]:
            note += "; pins the traffic: later deployments get none until it follows the latest again"
        more = ahead[-1] > ahead[0]
        return self._plan(observed, params, _shares(after), note, start, more)

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        params = self.params.model_validate(plan.params)
        operation = context.client(GcpClient, params.connection).run.set_traffic(
            params.region,
            params.service,
            _shares(plan.after["traffic"]),
            etag=plan.version or "",
            latest=plan.detail.get("follow", ""),
            # Someone else's change comes first; but one of ours that hangs must not keep us from going back.
            while_busy=plan.detail.get("going_back", False),
        )
        return {"operation": operation, "traffic": plan.after["traffic"]}

    def settled(self, context: Context, plan: Plan) -> Settled:
        params = self.params.model_validate(plan.params)
        service = context.client(GcpClient, params.connection).run.service(params.region, params.service)
        wanted, detail = _shares(plan.after["traffic"]), {"serving": service.serving}
        if service.traffic != wanted:
            seen = f"traffic is set to {_shown(service.traffic)}, no longer to {_shown(wanted)}"
            return Settled(done=False, failed=seen, detail=detail)
        # A service may be called failed for a newer revision that never came up, and yet serve as told.
        if not service.busy and service.serving == wanted:
            return Settled(done=True, detail=detail)
        return Settled(done=False, failed="" if service.busy else service.failed, detail=detail)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        present = _shares(observed.fields["traffic"])
        if present == _shares(plan.after["traffic"]):
            return Landed.APPLIED
        return Landed.NOT_APPLIED if present == _shares(plan.before["traffic"]) else Landed.UNCLEAR

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        name, present = observed.target.name, _shares(observed.fields["traffic"])
        former, left = _shares(plan.before["traffic"]), _shares(plan.after["traffic"])
        if present == former:
            return Nothing(why=f"{name} has its former traffic again already: {_shown(former)}")
        if present != left:
            raise _changed(name, present, left)
        note = f"going back to {_shown(former)}"
        detail: dict[str, Any] = {"going_back": True}
        # What followed the newest revision follows again, unless there is a newer one by now: that one
        # would get the traffic, and nobody has asked for it.
        if followed := plan.detail.get("followed", ""):
            if former == _shares(plan.detail["traffic"]) and observed.fields.get("latest") == followed:
                detail["follow"] = followed
            else:
                note += "; it stays pinned"
        params = self.params.model_validate(plan.params)
        return self._plan(observed, params, former, note, detail, more=False)

    def _plan(
        self,
        observed: Observed,
        params: ShiftTrafficParams,
        after: Shares,
        note: str,
        detail: dict[str, Any],
        more: bool,
    ) -> Plan:
        before = _shares(observed.fields["traffic"])
        moved = sum(max(0, percent - before.get(revision, 0)) for revision, percent in after.items())
        return Plan(
            action=self.name,
            target=observed.target,
            before={"traffic": before},
            after={"traffic": after},
            blast=Blast(amount=moved, whole=100, unit=self.blast_unit),
            params=params.model_dump(mode="json"),
            version=observed.version,
            more=more,
            detail=detail,
            note=note,
        )


def _candidates(service: Service, revisions: Sequence[Revision]) -> dict[str, list[str]]:
    """From the newest revision that gets traffic on: those that are ready or get some, newest first."""
    serving = [place for place, one in enumerate(revisions) if one.name in service.traffic]
    known = revisions[serving[0] :] if serving else ()
    kept = [one for one in known if one.ready or one.name in service.traffic][:LISTED]
    return {
        "revisions": [one.name for one in kept],
        "unready": [one.name for one in kept if not one.ready],
    }


def _start(observed: Observed) -> dict[str, Any] | Nothing:
    """From which revision to which, and the traffic to begin with; every step's plan keeps it."""
    name, fields = observed.target.name, observed.fields
    traffic, revisions = _shares(fields["traffic"]), list(fields["revisions"])
    source = next((revision for revision in revisions if revision in traffic), None)
    if source is None:
        return Nothing(why=f"{name}: none of its revisions gets traffic")
    unready = fields.get("unready", ())
    older = [one for one in revisions[revisions.index(source) + 1 :] if one not in unready]
    if not older:
        return Nothing(why=f"{name}: there is no ready revision before {source}")
    followed = fields.get("latest", "") if fields.get("follows") else ""
    return {"from": source, "to": older[0], "traffic": traffic, "followed": followed}


def _shares(traffic: Mapping[str, Any]) -> Shares:
    return {str(revision): int(percent) for revision, percent in traffic.items() if percent}


def _shown(traffic: Mapping[str, int]) -> str:
    return ", ".join(f"{revision} {percent}%" for revision, percent in sorted(traffic.items())) or "none"


def _changed(name: str, present: Shares, expected: Shares) -> Refused:
    return Refused(
        Reason.CHANGED_BY_PERSON,
        f"{name}: traffic is {_shown(present)}, not {_shown(expected)}: somebody else changed it",
        observed=_shown(present),
        allowed=_shown(expected),
    )
