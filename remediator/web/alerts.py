"""/api/v1/alerts: what came in, and why something did or did not happen about it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.errors import ConfigurationError
from remediator.model import AlertId, Episode
from remediator.policy import matcher
from remediator.web.access import Daemon, Viewer
from remediator.web.parameters import Before, Id, Limit, TextFilter
from remediator.web.problem import Problem

router = APIRouter(prefix="/alerts", tags=["alerts"])

SCANNED = 10_000
"""Alerts that one filtered request looks at; `next` leads on from there."""
_PAGE = 500


class Alerts(TypedDict):
    items: list[shapes.AlertShape]
    next: int | None


@router.get("")
async def list_alerts(
    daemon: Daemon,
    caller: Viewer,
    filter: Annotated[
        list[str],
        Query(description='Matchers as in Alertmanager, all must hold: alertname="X"', max_length=20),
    ] = [],  # noqa: B006 - FastAPI copies it
    firing: bool | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Alerts:
    """Alerts, newest first."""
    matchers = _matchers(filter)
    found: list[Episode] = []
    cursor = AlertId(before) if before is not None else None
    scanned = 0
    page_size = _PAGE if matchers else limit
    while len(found) < limit and scanned < SCANNED:
        page = await daemon.store.find_episodes(firing=firing, before=cursor, limit=page_size)
        for episode in page:
            cursor = episode.id
            if all(one.matches(episode.alert.labels) for one in matchers):
                found.append(episode)
                if len(found) == limit:
                    break
        scanned += len(page)
        if len(page) < page_size and len(found) < limit:
            cursor = None
            break
    return {"items": [shapes.alert(episode) for episode in found], "next": cursor}


@router.get("/{id}")
async def get_alert(daemon: Daemon, caller: Viewer, id: Id) -> shapes.AlertShape:
    """One alert."""
    return shapes.alert(await daemon.store.episode(AlertId(id)))


@router.get("/{id}/explain")
async def explain_alert(daemon: Daemon, caller: Viewer, id: Id, policy: TextFilter = None) -> dict[str, Any]:
    """Why something did or did not happen: each policy with the matcher or the guard that decided."""
    try:
        explanation = await daemon.explain(AlertId(id), policy)
    except ConfigurationError as error:
        raise Problem(404, str(error)) from None
    built: dict[str, Any] = msgspec.to_builtins(explanation)
    return built


def _matchers(texts: list[str]) -> list[matcher.Matcher]:
    found: list[matcher.Matcher] = []
    for text in texts:
        try:
            found += matcher.parse(text)
        except ValueError as error:
            raise Problem(422, str(error), errors=[{"field": "filter", "message": str(error)}]) from None
    return found
