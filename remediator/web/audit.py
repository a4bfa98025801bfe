"""/api/v1/audit: the log of everything, and whether it is whole."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.engine.scope import must_exist
from remediator.model import AlertId, RunId
from remediator.web.access import Auditor, Daemon, Viewer
from remediator.web.parameters import IdFilter, TextFilter, TimeFilter, instant

router = APIRouter(prefix="/audit", tags=["audit"])


class Events(TypedDict):
    items: list[shapes.EventShape]


class Verification(TypedDict):
    """What a check of the sealed chain found."""

    whole: bool
    sealed: int
    unsealed: int
    missing: list[str]
    changed: list[str]
    broken: list[int]
    head: str
    head_found: bool


@router.get("")
async def query(
    daemon: Daemon,
    caller: Viewer,
    alert: IdFilter = None,
    run: IdFilter = None,
    policy: TextFilter = None,
    target: TextFilter = None,
    kind: TextFilter = None,
    since: TimeFilter = None,
    until: TimeFilter = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many.")] = 100,
    oldest_first: bool = False,
) -> Events:
    """Audit events and deliveries, newest first. To page, narrow `until` (or `since`). 404 if nothing
    here has ever been called so, be it policy, target, alert or run."""
    records = await daemon.store.audit(
        alert=AlertId(alert) if alert is not None else None,
        run=RunId(run) if run is not None else None,
        policy=policy,
        target=target,
        kind=kind,
        since=instant(since),
        until=instant(until),
        limit=limit,
        oldest_first=oldest_first,
    )
    if not records:
        await must_exist(daemon.store, policy=policy, target=target, alert=alert, run=run)
    return {"items": [shapes.event(record) for record in records]}


@router.get("/verify")
async def verify(
    daemon: Daemon,
    caller: Auditor,
    head: Annotated[
        str | None,
        Query(max_length=200, pattern=r"^[0-9a-zA-Z:+/=_-]*$", description="A head noted earlier."),
    ] = None,
) -> Verification:
    """Check the chain. With `head` also that nothing was cut off after it."""
    report = await daemon.store.verify(head)
    return {
        "whole": report.whole,
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "missing": list(report.missing),
        "changed": list(report.changed),
        "broken": list(report.broken),
        "head": report.head,
        "head_found": report.head_found,
    }
