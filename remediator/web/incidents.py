"""/api/v1/incidents: what people are called for, and who has it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from remediator.engine.incident.shape import IncidentDetail, IncidentShape, detail, shape
from remediator.model import AlertId, IncidentId, RunId
from remediator.web.access import Daemon, Operator, Viewer
from remediator.web.parameters import Before, Body, Id, IdFilter, Limit, Reason

router = APIRouter(prefix="/incidents", tags=["incidents"])


class Incidents(TypedDict):
    items: list[IncidentShape]
    next: int | None


class Acknowledgement(Body):
    comment: Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00]*$")] = ""
    """What you know or do about it; the next status update says who has it."""


class Resolution(Body):
    comment: Reason


@router.get("")
async def list_incidents(
    daemon: Daemon,
    caller: Viewer,
    open: bool | None = None,
    run: IdFilter = None,
    alert: IdFilter = None,
    before: Before = None,
    limit: Limit = 100,
) -> Incidents:
    """Incidents, newest first."""
    found = await daemon.store.find_incidents(
        open=open,
        run=RunId(run) if run is not None else None,
        alert=AlertId(alert) if alert is not None else None,
        before=IncidentId(before) if before is not None else None,
        limit=limit,
    )
    return {
        "items": [shape(incident) for incident in found],
        "next": found[-1].id if len(found) == limit else None,
    }


@router.get("/{id}")
async def get_incident(daemon: Daemon, caller: Viewer, id: Id) -> IncidentDetail:
    """One incident with its runs, alerts, actions and all that was said, oldest first."""
    return await detail(daemon.store, IncidentId(id))


@router.post("/{id}/ack")
async def acknowledge_incident(
    daemon: Daemon, caller: Operator, id: Id, body: Acknowledgement
) -> IncidentShape:
    """You have it: nobody further is called. Status updates go on."""
    return shape(await daemon.acknowledge(IncidentId(id), body.comment, caller.name))


@router.post("/{id}/resolve")
async def resolve_incident(daemon: Daemon, caller: Operator, id: Id, body: Resolution) -> IncidentShape:
    """It is over, although an alert fires still, or only a person can know."""
    return shape(await daemon.resolve_incident(IncidentId(id), body.comment, caller.name))
