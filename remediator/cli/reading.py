"""Where reading verbs read: the API, or the store itself. Both answer in the public JSON shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec

from remediator import wiring
from remediator.contracts import Store
from remediator.engine import shapes
from remediator.engine.explain import explain
from remediator.engine.incident import shape as incident_shape
from remediator.engine.scope import must_exist
from remediator.engine.story import story
from remediator.model import AlertId, Episode, IncidentId, Instant, RunId
from remediator.policy import matcher
from remediator.policy.set import PolicySet, compile_set
from remediator.settings import Settings

Json = dict[str, Any]
_PAGE = 500


class Reader(Protocol):
    """Everything that reading verbs ask for.

    Raises (all methods):
        NotFound: there is no such thing.
        StoreUnavailable: it could not be asked.
    """

    async def alerts(self, matchers: Sequence[str], firing: bool | None, limit: int) -> list[Json]: ...
    async def explain(self, id: int, policy: str | None) -> Json: ...
    async def runs(
        self, *, open: bool | None, policy: str | None, alert: int | None, limit: int
    ) -> list[Json]: ...
    async def run(self, id: int) -> Json:
        """With its `alerts`, `intents`, `events` and `incidents`."""

    async def incidents(self, *, open: bool | None, limit: int) -> list[Json]: ...
    async def incident(self, id: int) -> Json:
        """With its `runs`, `alerts`, `intents` and `events`."""

    async def audit(self, filters: Mapping[str, Any], limit: int, oldest_first: bool) -> list[Json]:
        """Filters: alert, run, policy, target, kind, and since, until as Instant."""

    async def verify(self, head: str | None) -> Json: ...
    async def effects(self, open: bool) -> list[Json]: ...
    async def targets(self) -> list[Json]: ...
    async def controls(self) -> list[Json]: ...
    async def questions(self) -> list[Json]:
        """The approvals that wait for somebody, newest first."""


@asynccontextmanager
async def local(settings: Settings) -> AsyncIterator[Reader]:
    """A reader of the store of settings, beside the daemon that may be running on it.

    Raises:
        StoreUnavailable: it is not there, or cannot be read.
    """
    store = wiring.store(settings, read_only=True)
    await store.open()
    try:
        yield _Local(store, settings)
    finally:
        await store.close()


class _Local:
    """Reads a store that was opened read-only."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._sets: dict[str, PolicySet] = {}

    async def alerts(self, matchers: Sequence[str], firing: bool | None, limit: int) -> list[Json]:
        wanted = [one for text in matchers for one in matcher.parse(text)]
        found: list[Episode] = []
        before: AlertId | None = None
        while len(found) < limit:
            page = await self._store.find_episodes(firing=firing, before=before, limit=_PAGE)
            found += [one for one in page if all(test.matches(one.alert.labels) for test in wanted)]
            if len(page) < _PAGE:
                break
            before = page[-1].id
        return [_json(shapes.alert(one)) for one in found[:limit]]

    async def explain(self, id: int, policy: str | None) -> Json:
        said = await explain(self._store, self._policies, AlertId(id), policy=policy)
        return _json(said)

    async def _policies(self, revision: str) -> PolicySet:
        if revision not in self._sets:
            stored = await self._store.revision(revision)
            self._sets[revision] = compile_set(stored.files, wiring.vocabulary(self._settings))
        return self._sets[revision]

    async def runs(
        self, *, open: bool | None, policy: str | None, alert: int | None, limit: int
    ) -> list[Json]:
        found = await self._store.find_runs(
            open=open, policy=policy, alert=None if alert is None else AlertId(alert), limit=limit
        )
        if not found:
            await must_exist(self._store, policy=policy, alert=alert)
        return [_json(shapes.run(run)) for run in found]

    async def run(self, id: int) -> Json:
        run = await self._store.run(RunId(id))
        events, gap = await story(self._store, 1_000, run=run.id)
        return _json(
            {
                **shapes.run(run),
                "alerts": [shapes.alert(one) for one in await self._store.episodes(run.id)],
                "intents": [shapes.intent(one) for one in await self._store.intents(run.id)],
                "approvals": [shapes.approval(one) for one in await self._store.approvals(run=run.id)],
                "events": [shapes.event(one) for one in events],
                "events_before_gap": gap,
                "incidents": sorted(one.id for one in await self._store.find_incidents(run=run.id)),
            }
        )

    async def incidents(self, *, open: bool | None, limit: int) -> list[Json]:
        found = await self._store.find_incidents(open=open, limit=limit)
        return [_json(incident_shape.shape(one)) for one in found]

    async def incident(self, id: int) -> Json:
        return _json(await incident_shape.detail(self._store, IncidentId(id)))

    async def audit(self, filters: Mapping[str, Any], limit: int, oldest_first: bool) -> list[Json]:
        found = await self._store.audit(**filters, limit=limit, oldest_first=oldest_first)
        if not found:
            names = {key: filters.get(key) for key in ("policy", "target", "alert", "run")}
            await must_exist(self._store, **names)
        return [_json(shapes.event(one)) for one in found]

    async def verify(self, head: str | None) -> Json:
        report = await self._store.verify(head)
        return {"whole": report.whole, **_json(report)}

    async def effects(self, open: bool) -> list[Json]:
        return [_json(shapes.effect(one)) for one in await self._store.effects(open=open)]

    async def targets(self) -> list[Json]:
        found = shapes.targets(await self._store.locks(), await self._store.controls())
        return [_json(one) for one in found]

    async def controls(self) -> list[Json]:
        return [_json(shapes.control(one)) for one in await self._store.controls()]

    async def questions(self) -> list[Json]:
        return [_json(shapes.approval(one)) for one in await self._store.approvals(open=True, limit=_PAGE)]


def _json(value: Any) -> Json:
    found: Json = msgspec.to_builtins(value)
    return found


def rfc3339(at: Instant) -> str:
    return shapes.time(at)
