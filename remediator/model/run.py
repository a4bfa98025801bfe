"""Runs: one policy applied to one episode."""

from __future__ import annotations

from enum import StrEnum

from remediator.model.reason import Reason
from remediator.model.time import Instant
from remediator.model.value import AlertId, RunId, Struct


class Mode(StrEnum):
    OBSERVE = "observe"
    APPROVE = "approve"
    ENFORCE = "enforce"


class State(StrEnum):
    """Where an open run stands. An ended run keeps its last state and has an outcome."""

    HOLD = "HOLD"
    GUARD = "GUARD"
    APPROVAL = "APPROVAL"
    ACTING = "ACTING"
    SETTLING = "SETTLING"
    UNKNOWN = "UNKNOWN"
    VERIFY = "VERIFY"
    REVERTING = "REVERTING"


BEFORE_ADMIT = frozenset({State.HOLD, State.GUARD, State.APPROVAL})


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    OBSERVED = "observed"
    NOTHING_TO_DO = "nothing_to_do"
    REVERTED = "reverted"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    ESCALATED = "escalated"


class Origin(StrEnum):
    """What opened a run: an alert, a person (`runs start`), or the end of a lease."""

    ALERT = "alert"
    HAND = "hand"
    LEASE = "lease"


class Progress(Struct, frozen=True, kw_only=True):
    """What a run must remember between moves. Stored with it; nothing lives only in memory.

    waiting_since: when the present wait began; `give_up` counts from it.
    rung, step: the remedy being worked on. number: the next intent's number.
    todo: intents still to be undone, last first. applied: intents whose call went through.
    attempts: tries of the present wait. faults: how often the engine itself broke off in this run.
    effect: the lease that this run returns.
    asked: it began to act on a person's word, so the rest of it needs one too.
    """

    waiting_since: Instant | None = None
    rung: int = 0
    step: int = 0
    number: int = 0
    applied: tuple[int, ...] = ()
    todo: tuple[int, ...] = ()
    settle_until: Instant | None = None
    verify_from: Instant | None = None
    verify_until: Instant | None = None
    stable_since: Instant | None = None
    failure: Reason | None = None
    failure_note: str = ""
    attempts: int = 0
    faults: int = 0
    effect: int | None = None
    asked: bool = False


class Run(Struct, frozen=True, kw_only=True):
    """One policy revision applied to one episode. `epoch` rises at every claim."""

    id: RunId
    policy: str
    policy_revision: str
    alert: AlertId
    target: str | None
    target_key: str | None
    mode: Mode
    origin: Origin
    state: State
    outcome: Outcome | None
    reason: Reason | None
    observed: str
    allowed: str
    created_at: Instant
    updated_at: Instant
    next_at: Instant | None
    epoch: int
    progress: Progress

    @property
    def open(self) -> bool:
        return self.outcome is None
