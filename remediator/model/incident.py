"""Incidents."""

from __future__ import annotations

from enum import StrEnum

from remediator.model.time import Instant
from remediator.model.value import IncidentId, RunId, Struct


class Severity(StrEnum):
    """As in the runbooks; P1 is the gravest."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    @property
    def rank(self) -> int:
        """1 for P1, the gravest."""
        return int(self.value[1:])


class IncidentProgress(Struct, frozen=True, kw_only=True):
    """What an incident must remember between looks. Stored with it.

    chain: of escalation.yaml, as the gravest policy names it. policy: that policy.
    told: the steps of the chain that were told, each by what it says (`after 15m: secondary`): a
        chain may be edited meanwhile. called: the notifiers they named.
    announced: whether people were told that there is an incident.
    news: runs that ended for a person since people were told last.
    updates: how many status updates were due so far. overdue_at: when the acknowledgement was missed.
    by_person: only a person can say that it is over. comment: what a person said last.
    """

    chain: str = ""
    policy: str = ""
    told: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    announced: bool = False
    news: tuple[RunId, ...] = ()
    updates: int = 0
    overdue_at: Instant | None = None
    by_person: bool = False
    comment: str = ""


class Incident(Struct, frozen=True, kw_only=True):
    """Something a person is called for: the runs and alerts of one target, from its declaration until
    it is resolved. `severity` is the gravest of them."""

    id: IncidentId
    target: str
    target_key: str
    severity: Severity
    opened_at: Instant
    acknowledged_at: Instant | None
    acknowledged_by: str | None
    resolved_at: Instant | None
    updated_at: Instant
    next_at: Instant | None
    progress: IncidentProgress

    @property
    def open(self) -> bool:
        return self.resolved_at is None
