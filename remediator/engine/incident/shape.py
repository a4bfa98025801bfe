"""How incidents look as JSON, in the API and on the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from typing_extensions import TypedDict

from remediator.contracts import Store
from remediator.engine import shapes
from remediator.engine.timeline import KINDS
from remediator.model import AuditRecord, Incident, IncidentId, Instant

_EVENTS = 1_000
_KINDS = sorted(kind for kind in KINDS if kind.startswith("incident."))


class IncidentShape(TypedDict):
    """What a person is called for. `called`: the notifiers that its chain has named so far. `overdue`:
    nobody had acknowledged it in time."""

    id: int
    target: str
    target_key: str
    severity: str
    state: str
    policy: str
    chain: str
    called: list[str]
    opened_at: str
    acknowledged_at: str | None
    acknowledged_by: str | None
    overdue: bool
    resolved_at: str | None
    updated_at: str
    next_at: str | None
    comment: str


class IncidentDetail(IncidentShape):
    """An incident with its runs, their alerts and intents, and everything that was said about it."""

    runs: list[shapes.RunShape]
    alerts: list[shapes.AlertShape]
    intents: list[shapes.IntentShape]
    events: list[shapes.EventShape]


def shape(incident: Incident) -> IncidentShape:
    progress = incident.progress
    state = "acknowledged" if incident.acknowledged_at is not None else "open"
    return {
        "id": incident.id,
        "target": incident.target,
        "target_key": incident.target_key,
        "severity": incident.severity.value,
        "state": state if incident.open else "resolved",
        "policy": progress.policy,
        "chain": progress.chain,
        "called": list(progress.called),
        "opened_at": shapes.time(incident.opened_at),
        "acknowledged_at": _time(incident.acknowledged_at),
        "acknowledged_by": incident.acknowledged_by,
        "overdue": progress.overdue_at is not None,
        "resolved_at": _time(incident.resolved_at),
        "updated_at": shapes.time(incident.updated_at),
        "next_at": _time(incident.next_at),
        "comment": progress.comment,
    }


async def detail(store: Store, id: IncidentId) -> IncidentDetail:
    """Everything about an incident.

    Raises:
        NotFound: there is none.
    """
    incident = await store.incident(id)
    runs = await store.incident_runs(id)
    alerts: dict[int, shapes.AlertShape] = {}
    intents: list[shapes.IntentShape] = []
    for run in runs:
        for episode in await store.episodes(run.id):
            alerts.setdefault(episode.id, shapes.alert(episode))
        intents += [shapes.intent(one) for one in await store.intents(run.id)]
    return {
        **shape(incident),
        "runs": [shapes.run(run) for run in runs],
        "alerts": list(alerts.values()),
        "intents": intents,
        "events": [shapes.event(one) for one in await _events(store, incident)],
    }


async def _events(store: Store, incident: Incident) -> list[AuditRecord]:
    """By kind: of a target's own events there may be thousands, and its incident's are among the last."""
    asked: tuple[dict[str, Any], ...] = (
        *({"target": incident.target, "kind": kind} for kind in _KINDS),
        {"kind": "message.sent"},
        {"kind": "message.abandoned"},
    )
    found: dict[int, AuditRecord] = {}
    for filters in asked:
        async for one in _since(store, incident.opened_at, filters):
            if one.event.data.get("incident") == incident.id:
                found[one.id] = one
    return [found[id] for id in sorted(found)]


async def _since(store: Store, since: Instant, filters: Mapping[str, Any]) -> AsyncIterator[AuditRecord]:
    """All events since then, oldest first; those at the edge of a page come twice."""
    while True:
        page = await store.audit(**filters, since=since, limit=_EVENTS, oldest_first=True)
        for one in page:
            yield one
        if len(page) < _EVENTS:
            return
        since = max(page[-1].at, Instant(since + 1))


def _time(at: Instant | None) -> str | None:
    return None if at is None else shapes.time(at)
