"""What is known of an incident when something is to be said of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from remediator.contracts import Store
from remediator.engine.headline import following
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.turn import Turn, next_call
from remediator.engine.policies import Policies
from remediator.errors import NotFound
from remediator.model import Incident, Instant, Run, State
from remediator.notify import incident as texts
from remediator.notify.incident import Course, Facts
from remediator.policy.escalation import Escalation, Step
from remediator.policy.schema import Policy

_COURSES = 20
"""Runs that one message speaks of, the latest; an incident may have very many."""


class Known:
    """Reads it: the incident's runs with their alerts and calls, and what the active policies say."""

    def __init__(self, store: Store, policies: Policies, telling: Telling) -> None:
        self._store = store
        self._policies = policies
        self._telling = telling

    async def facts(
        self, incident: Incident, now: Instant, due: Turn | None = None, steps: Sequence[Step] = ()
    ) -> Facts:
        runs = await self._store.incident_runs(incident.id)
        kept = [run for run in runs if run.id in incident.progress.news]
        courses = [await self._course(run, now) for run in _some(runs, kept)]
        after = due.progress if due is not None else incident.progress
        call = next_call(incident, after, steps)
        said = f"{', '.join(call[1].notify)} is called at {texts.clock(call[0])}" if call is not None else ""
        telling = self._telling
        return Facts(
            incident=incident,
            now=now,
            courses=tuple(courses),
            next_call=said,
            channel=telling.channel,
            war_room=telling.war_room,
            public_names=dict(telling.public_names),
        )

    async def _course(self, run: Run, now: Instant) -> Course:
        policy = self.policy(run.policy)
        episode = None
        with contextlib.suppress(NotFound):  # retention may have been here
            episode = await self._store.episode(run.alert)
        note = ""
        if run.outcome is not None:
            for record in await self._store.audit(run=run.id, kind=f"run.{run.outcome}", limit=1):
                note = str(record.event.data.get("note", ""))
        verifying = run.state is State.VERIFY and run.open
        return Course(
            run=run,
            episode=episode,
            intents=tuple(await self._store.intents(run.id)) if run.progress.number else (),
            next=following(run, now, policy.give_up if policy is not None else None),
            note=note,
            runbook=(policy.runbook or "") if policy is not None else "",
            eta=run.progress.verify_until if verifying else None,
        )

    @property
    def escalation(self) -> Escalation:
        current = self._policies.current
        return current.escalation if current is not None else Escalation()

    def policy(self, name: str) -> Policy | None:
        current = self._policies.current
        return current.policies.get(name) if current is not None else None


def _some(runs: Sequence[Run], kept: Sequence[Run]) -> list[Run]:
    """The latest runs, and those there is news of."""
    wanted = {run.id for run in (*runs[-_COURSES:], *kept[-_COURSES:])}
    return [run for run in runs if run.id in wanted]
