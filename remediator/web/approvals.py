"""/api/v1/approvals, and how runs are approved and rejected."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.model import Decision, RunId
from remediator.web.access import Caller, Daemon, Viewer
from remediator.web.parameters import Body, Id, IdFilter, Limit, Reason
from remediator.web.served import Served

router = APIRouter(tags=["approvals"])


class Approvals(TypedDict):
    items: list[shapes.ApprovalShape]


class Decide(Body):
    """A person's word on what a run asks."""

    comment: Reason
    approval: Annotated[
        int | None,
        Field(ge=1, le=2**63 - 1, description="The one that was read; 409 if another is asked by now."),
    ] = None


@router.get("/approvals")
async def list_approvals(
    daemon: Daemon, caller: Viewer, open: bool | None = None, run: IdFilter = None, limit: Limit = 100
) -> Approvals:
    """What was asked and decided, newest first; with open=true what waits for somebody."""
    found = await daemon.store.approvals(run=RunId(run) if run is not None else None, open=open, limit=limit)
    return {"items": [shapes.approval(asked) for asked in found]}


@router.post("/runs/{id}/approve")
async def approve_run(daemon: Daemon, caller: Viewer, id: Id, body: Decide) -> shapes.ApprovalShape:
    """Let the run carry out its plan, if the caller's role allows that; 409 if it is decided already."""
    return await _decide(daemon, caller, id, Decision.APPROVED, body)


@router.post("/runs/{id}/reject")
async def reject_run(daemon: Daemon, caller: Viewer, id: Id, body: Decide) -> shapes.ApprovalShape:
    """Refuse the run's plan, if the caller's role would allow to approve it; 409 if it is decided already."""
    return await _decide(daemon, caller, id, Decision.REJECTED, body)


async def _decide(
    daemon: Served, caller: Caller, id: int, decision: Decision, body: Decide
) -> shapes.ApprovalShape:
    decided = await daemon.decide(RunId(id), decision, body.comment, caller.name, caller.role, body.approval)
    return shapes.approval(decided)
