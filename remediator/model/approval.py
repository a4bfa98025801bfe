"""Questions to people."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from remediator.model.plan import Plan
from remediator.model.time import JUMP, Instant, moment
from remediator.model.value import RunId, Struct


class Decision(StrEnum):
    """What became of a question to people. Expired and withdrawn are the daemon's own."""

    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Approval(Struct, frozen=True, kw_only=True):
    """One plan that a run may carry out only if a person says so: asked once, decided once.

    plan: the whole action, from its first step to its last, with the blast radius of all together.
    role: the lowest that may decide. rung, step: the remedy it is about; it stands for no other.
    steps: calls that the action takes, as far as could be foreseen.
    used_by: until when the first call must have been admitted; None until it is approved.
    link_until: what its link says instead of expires_at, where the clock has jumped since; else None.
    started_by: who started the run by hand, "" where an alert did.
    data: what people are shown besides: evidence, why, worst case, the alert, the level of authority.
    """

    id: int
    run: RunId
    plan: Plan
    role: str
    asked_at: Instant
    expires_at: Instant
    rung: int = 0
    step: int = 0
    steps: int = 1
    started_by: str = ""
    decision: Decision | None = None
    actor: str = ""
    comment: str = ""
    decided_at: Instant | None = None
    link_until: Instant | None = None
    data: dict[str, Any] = {}

    @property
    def open(self) -> bool:
        return self.decision is None

    @property
    def used_by(self) -> Instant | None:
        """A decision does not keep: it has to be used within the time that there was to take it."""
        if self.decision is not Decision.APPROVED or self.decided_at is None:
            return None
        return Instant(self.decided_at + (self.expires_at - self.asked_at))

    def unusable(self, now: Instant) -> str:
        """Why nothing may be begun on it at this time; "" where it may. A decision from the future was
        made before the clock was set back, by nobody knows how long."""
        if self.decision is not Decision.APPROVED or self.used_by is None or self.decided_at is None:
            return f"it is {self.decision or 'not decided'}"
        if now > self.used_by:
            return f"it had to be used by {moment(self.used_by)}"
        if self.decided_at > now + JUMP:
            return f"it was given at {moment(self.decided_at)}, and the clock was set back since"
        return ""
