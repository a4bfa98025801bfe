"""/api/v1/runs: what the daemon did, does, and is asked to do by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.engine.scope import must_exist
from remediator.engine.story import story
from remediator.model import AlertId, RunId
from remediator.web.access import Daemon, Operator, Viewer
from remediator.web.parameters import Before, Body, Id, IdFilter, Limit, Reason, Text, TextFilter

router = APIRouter(prefix="/runs", tags=["runs"])

EVENTS = 1_000
"""Audit events shown with one run."""


class Runs(TypedDict):
    items: list[shapes.RunShape]
    next: int | None


class RunDetail(shapes.RunShape):
    """A run with everything that is known about it."""

    alerts: list[shapes.AlertShape]
    intents: list[shapes.IntentShape]
    approvals: list[shapes.ApprovalShape]
    events: list[shapes.EventShape]
    events_before_gap: int | None
    """Behind so many of them events are left out; None where none are."""
    incidents: list[int]


class Start(Body):
    """A run to be started by hand."""

    policy: Text
    labels: Annotated[
        dict[Text, Annotated[str, Field(max_length=4_096, pattern=r"^[^\x00]*$")]], Field(max_length=128)
    ] = {}
    reason: Reason
    key: Annotated[
        str,
        Field(
            max_length=200,
            pattern=r"^[^\x00]*$",
            description="Anything of your own: the same request with the same key is the same run, so "
            "that it can be repeated where no answer came, or 503.",
        ),
    ] = ""
    anyway: Annotated[
        bool,
        Field(description="Also with labels that the policy would not match; else such a start is a 409."),
    ] = False


class Why(Body):
    reason: Reason


@router.get("")
async def list_runs(
    daemon: Daemon,
    caller: Viewer,
    open: bool | None = None,
    policy: TextFilter = None,
    alert: IdFilter = None,
    before: Before = None,
    limit: Limit = 100,
) -> Runs:
    """Runs, newest first. 404 if there is no such policy, nor was, or no such alert."""
    found = await daemon.store.find_runs(
        open=open,
        policy=policy,
        alert=AlertId(alert) if alert is not None else None,
        before=RunId(before) if before is not None else None,
        limit=limit,
    )
    if not found:
        await must_exist(daemon.store, policy=policy, alert=alert)
    return {
        "items": [shapes.run(run) for run in found],
        "next": found[-1].id if len(found) == limit else None,
    }


@router.get("/{id}")
async def get_run(daemon: Daemon, caller: Viewer, id: Id) -> RunDetail:
    """One run with its alerts, intents and audit events, oldest first, and its approvals, newest first."""
    store = daemon.store
    run = await store.run(RunId(id))
    episodes = await store.episodes(run.id)
    intents = await store.intents(run.id)
    events, gap = await story(store, EVENTS, run=run.id)
    incidents = await store.find_incidents(run=run.id)
    return {
        **shapes.run(run),
        "alerts": [shapes.alert(episode) for episode in episodes],
        "intents": [shapes.intent(intent) for intent in intents],
        "approvals": [shapes.approval(asked) for asked in await store.approvals(run=run.id)],
        "events": [shapes.event(record) for record in events],
        "events_before_gap": gap,
        "incidents": sorted(one.id for one in incidents),
    }


@router.post("", status_code=201)
async def start_run(daemon: Daemon, caller: Operator, body: Start) -> shapes.RunShape:
    """Run a policy by hand, through all the same guards. Labels of which its `match:` allows one value only
    need not be given; 409 names what it would not match. After 503 nobody knows whether it was started: a
    request with a `key` may then be repeated."""
    run = await daemon.start_run(
        body.policy, body.labels, body.reason, caller.name, body.key, anyway=body.anyway
    )
    return shapes.run(run)


@router.post("/{id}/cancel")
async def cancel_run(daemon: Daemon, caller: Operator, id: Id, body: Why) -> shapes.RunShape:
    """End a run that has not acted yet."""
    return shapes.run(await daemon.cancel_run(RunId(id), body.reason, caller.name))
