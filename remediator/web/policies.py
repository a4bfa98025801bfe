"""/api/v1/policies: what is in force."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from typing_extensions import TypedDict

from remediator.model import ControlKind, span
from remediator.web.access import Daemon, Operator, Viewer
from remediator.web.parameters import Body, Reason
from remediator.web.problem import Problem

Name = Annotated[str, Path(max_length=200, pattern=r"^[^\x00]*$")]
router = APIRouter(prefix="/policies", tags=["policies"])


class PolicyShape(TypedDict):
    """One policy of the active set."""

    name: str
    description: str
    severity: str
    owner: str
    runbook: str
    mode: str
    match: list[str]
    hold: str
    actions: list[str]


class PolicyDetail(PolicyShape):
    revision: str
    text: str


class Restore(Body):
    """A breaker to close."""

    reason: Reason


class Restored(TypedDict):
    restored: bool


class Policies(TypedDict):
    revision: str
    fault: str
    items: list[PolicyShape]


@router.get("")
async def list_policies(daemon: Daemon, caller: Viewer) -> Policies:
    """The active policies; `fault` says why the directory's present content was not taken."""
    current = daemon.policies.current
    found = current.policies if current is not None else {}
    return {
        "revision": daemon.policies.hash,
        "fault": daemon.policies.fault,
        "items": [_shape(found[name]) for name in sorted(found)],
    }


@router.post("/{name}/restore")
async def restore_policy(daemon: Daemon, caller: Operator, name: Name, body: Restore) -> Restored:
    """Close the breaker of a policy that was demoted because its runs did not heal."""
    if await daemon.restore(name, body.reason, caller.name):
        return {"restored": True}
    open_ = [
        one.scope.removeprefix("policy:")
        for one in await daemon.store.controls()
        if one.kind is ControlKind.BREAKER
    ]
    raise Problem(404, f"policy {name!r} is not demoted; demoted are: {', '.join(open_) or 'none'}")


@router.get("/{name}")
async def get_policy(daemon: Daemon, caller: Viewer, name: str) -> PolicyDetail:
    """One policy, with its text."""
    current = daemon.policies.current
    found = current.policies.get(name) if current is not None else None
    if current is None or found is None:
        raise Problem(404, f"no policy is named {name[:100]!r}; see GET /api/v1/policies")
    texts = (text for file, text in current.files.items() if file.rpartition("/")[2] == f"{name}.yaml")
    return {**_shape(found), "revision": daemon.policies.hash, "text": next(texts, "")}


def _shape(policy: Any) -> PolicyShape:
    return {
        "name": policy.name,
        "description": policy.description,
        "severity": str(policy.severity),
        "owner": policy.owner,
        "runbook": policy.runbook,
        "mode": str(policy.mode),
        "match": [str(matcher) for matcher in policy.match],
        "hold": span(policy.for_),
        "actions": [use.action for remedy in policy.remedies for use in remedy.actions],
    }
