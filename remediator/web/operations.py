"""Health, metrics and reload: what orchestrators, Prometheus and operators ask of a daemon.

Health and metrics need no token: they name senders and policies, but no alert and no target.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from typing_extensions import TypedDict

from remediator import metrics
from remediator.web.access import Daemon, Operator
from remediator.web.problem import Problem

router = APIRouter()


class Reloaded(TypedDict):
    changed: bool
    revision: str


@router.get("/healthz", tags=["operations"], response_class=PlainTextResponse)
@router.get("/-/healthy", include_in_schema=False, response_class=PlainTextResponse)
async def healthy() -> str:
    """Whether the process lives."""
    return "healthy\n"


@router.get("/readyz", tags=["operations"], response_class=PlainTextResponse)
@router.get("/-/ready", include_in_schema=False, response_class=PlainTextResponse)
async def ready(daemon: Daemon) -> str:
    """Whether it takes alerts and acts on them; 503 with the reason if not."""
    fine, why = daemon.ready()
    if not fine:
        raise Problem(503, why)
    return f"{why}\n"


@router.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
async def scrape() -> Response:
    """The daemon's own metrics, in Prometheus's text format."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


@router.post("/-/reload", tags=["operations"])
async def reload(daemon: Daemon, caller: Operator) -> Reloaded:
    """Look at the policy directory now; 409 with every fault if it cannot be taken."""
    changed = await daemon.policies.reload()
    if daemon.policies.fault:
        raise Problem(409, f"the policies were not taken, the old ones stay: {daemon.policies.fault}")
    return {"changed": changed, "revision": daemon.policies.hash}
