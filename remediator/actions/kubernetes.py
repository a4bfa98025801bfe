"""Workloads of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from remediator.clients.kubernetes import KubernetesClient, Object
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

# Kubernetes documentation, "Object Names and IDs": RFC 1123 label, RFC 1123 subdomain.
NAMESPACE = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"

OWNERS: Mapping[str, str] = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""Label or annotation → the GitOps tool that puts it on what it manages.
Argo CD manual, "Resource Tracking"; Flux documentation, "Kustomization" and "HelmRelease"."""


class ScaleParams(Params):
    """Parameters of `kubernetes.scale`."""

    connection: Annotated[str, ConnectionOf("kubernetes")]
    namespace: Annotated[str, Selector(NAMESPACE), StringConstraints(pattern=f"^{NAMESPACE}$")]
    deployment: Annotated[str, Selector(NAME), StringConstraints(pattern=f"^{NAME}$")]
    """The Deployment's name, or the StatefulSet's."""
    kind: Literal["deployment", "statefulset"] = "deployment"
    add: Annotated[int, Field(strict=True, ge=1, le=20)]
    """How many replicas to add."""
    max: Annotated[int, Field(strict=True, ge=1, le=200)]
    """Never more replicas than this."""
    allow_gitops: bool = False
    """Act although Argo CD or Flux manages the object and may put its own number back."""


class Scale(Action[ScaleParams]):
    """Adds replicas to a Deployment or a StatefulSet through its scale subresource.

    An object that a HorizontalPodAutoscaler scales is left alone: the two would fight.
    Source of facts: Kubernetes API reference, Scale v1 autoscaling, Deployment v1 apps,
    HorizontalPodAutoscaler v2 autoscaling; API Concepts, "Resource versions".
    """

    name = "kubernetes.scale"
    summary = "Add replicas to a Deployment or a StatefulSet, up to a maximum"
    params = ScaleParams
    risk = Risk.REVERSIBLE
    idempotency = Idempotency("conditional")
    # kube-apiserver ends a request after --request-timeout, one minute unless set otherwise; and what
    # lands late carries a resourceVersion that must still be the present one.
    landing_time = Millis(2 * MINUTE)
    blast_unit = "replicas"
    fields = ("replicas",)
    permissions = (
        Permission("kubernetes", "get namespaces/kube-system", "the cluster's identity"),
        Permission("kubernetes", "get deployments.apps", "read replicas, owner and progress"),
        Permission("kubernetes", "get statefulsets.apps", "the same with kind: statefulset"),
        Permission("kubernetes", "get deployments.apps/scale", "read the number's version"),
        Permission("kubernetes", "update deployments.apps/scale", "change the number of replicas"),
        Permission("kubernetes", "get statefulsets.apps/scale", "the same with kind: statefulset"),
        Permission("kubernetes", "update statefulsets.apps/scale", "the same with kind: statefulset"),
        Permission(
            "kubernetes", "list horizontalpodautoscalers.autoscaling", "see whether an autoscaler owns it"
        ),
    )
    example = {
        "action": "kubernetes.scale",
        "with": {
            "connection": "cluster",
            "namespace": "jobs",
            "deployment": "gpu-worker",
            "add": 2,
            "max": 10,
        },
    }

    def target_name(self, params: ScaleParams) -> str:
        return f"kubernetes:{params.connection}/{params.namespace}/{params.kind}/{params.deployment}"

    def observe(self, context: Context, params: ScaleParams) -> Observed:
        client = context.client(KubernetesClient, params.connection)
        cluster = client.identity()
        found = client.read(*_path(params))
        autoscalers = client.read(
            "apis", "autoscaling", "v2", "namespaces", params.namespace, "horizontalpodautoscalers"
        )
        return Observed(
            target=Target(
                name=self.target_name(params),
                key=f"kubernetes:{cluster}/{params.namespace}/{params.kind}/{params.deployment}",
            ),
            fields={
                "replicas": _replicas(found),
                "autoscaler": _autoscaler(autoscalers, params),
                "managed_by": _owner(found["metadata"]),
            },
            version=found["metadata"]["resourceVersion"],
        )

    def plan(self, observed: Observed, params: ScaleParams, done: Sequence[Plan]) -> Plan | Nothing:
        name = observed.target.name
        if autoscaler := observed.fields.get("autoscaler"):
            raise Refused(
                Reason.MANAGED_ELSEWHERE,
                f"{name} is scaled by the HorizontalPodAutoscaler {autoscaler}, which would undo this; "
                "raise its maxReplicas instead",
                observed=f"HorizontalPodAutoscaler {autoscaler}",
                allowed="no HorizontalPodAutoscaler on it",
            )
        owner = observed.fields.get("managed_by", "")
        if owner and not params.allow_gitops:
            raise Refused(
                Reason.MANAGED_ELSEWHERE,
                f"{name} is managed by {owner}, which may put its own number back; "
                "set allow_gitops: true in the policy if that is acceptable",
                observed=f"managed by {owner}",
                allowed="not managed by GitOps, or allow_gitops: true",
            )
        present = int(observed.fields["replicas"])
        to = min(present + params.add, params.max)
        if to <= present:
            return Nothing(
                why=f"{name} has {present} replicas and the policy's max allows {params.max}: none to add"
            )
        notes = [f"managed by {owner}, which may put its own number back"] if owner else []
        if to < present + params.add:
            notes.append(f"{present + params.add} wanted, held at {to} by max")
        return self._plan(observed, params, present, to, "; ".join(notes))

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        params = self.params.model_validate(plan.params)
        client = context.client(KubernetesClient, params.connection)
        path = (*_path(params), "scale")
        scale = client.read(*path)
        present = _replicas(scale)
        if present != plan.before["replicas"]:
            raise _changed(plan, present, plan.before["replicas"])
        # Sent with the version just read, not the plan's: the object's version also moves whenever a pod
        # comes or goes, and it is the number of replicas that must not have been changed. If anything
        # moves from here on the answer is 409, which is Temporary: nothing was done, look again.
        scale["spec"] = {"replicas": plan.after["replicas"]}
        answer = client.change("PUT", *path, body=scale)
        return {
            "replicas": plan.after["replicas"],
            "resource_version": answer.get("metadata", {}).get("resourceVersion", ""),
        }

    def settled(self, context: Context, plan: Plan) -> Settled:
        params = self.params.model_validate(plan.params)
        found = context.client(KubernetesClient, params.connection).read(*_path(params))
        wanted, present = plan.after["replicas"], _replicas(found)
        if present != wanted:
            return Settled(done=False, failed=f"replicas is {present}, no longer the {wanted} that was set")
        status = found.get("status", {})
        running, available = int(status.get("replicas", 0)), int(status.get("availableReplicas", 0))
        seen = int(status.get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 0))
        shrinking = wanted < plan.before["replicas"]
        done = seen and available >= wanted and (running <= wanted or not shrinking)
        return Settled(done=done, detail={"replicas": running, "available": available})

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        present = observed.fields["replicas"]
        if present == plan.after["replicas"]:
            return Landed.APPLIED
        return Landed.NOT_APPLIED if present == plan.before["replicas"] else Landed.UNCLEAR

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        present, former = observed.fields["replicas"], plan.before["replicas"]
        if present == former:
            return Nothing(why=f"{observed.target.name} has {former} replicas again already")
        if present != plan.after["replicas"]:
            raise _changed(plan, present, plan.after["replicas"])
        params = self.params.model_validate(plan.params)
        return self._plan(observed, params, present, former, f"going back to {former}")

    def _plan(self, observed: Observed, params: ScaleParams, present: int, to: int, note: str) -> Plan:
        return Plan(
            action=self.name,
            target=observed.target,
            before={"replicas": present},
            after={"replicas": to},
            blast=Blast(amount=abs(to - present), whole=params.max, unit=self.blast_unit),
            params=params.model_dump(mode="json"),
            version=observed.version,
            note=note,
        )


def _path(params: ScaleParams) -> tuple[str, ...]:
    plural = f"{params.kind}s"
    return ("apis", "apps", "v1", "namespaces", params.namespace, plural, params.deployment)


def _replicas(found: Object) -> int:
    # A Scale without the field means 0 (it is left out when empty); a Deployment always carries it,
    # because the API server fills in the default of 1.
    return int(found.get("spec", {}).get("replicas", 0))


def _autoscaler(listed: Object, params: ScaleParams) -> str:
    for item in listed.get("items", ()):
        aim = item.get("spec", {}).get("scaleTargetRef", {})
        if aim.get("name") == params.deployment and str(aim.get("kind", "")).lower() == params.kind:
            return str(item["metadata"]["name"])
    return ""


def _owner(metadata: Object) -> str:
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((tool for mark, tool in OWNERS.items() if mark in marks), "")


def _changed(plan: Plan, present: int, expected: int) -> Refused:
    return Refused(
        Reason.CHANGED_BY_PERSON,
        f"{plan.target.name}: replicas is {present}, not the {expected} that was expected: "
        "somebody else changed it",
        observed=f"replicas={present}",
        allowed=f"replicas={expected}",
    )
