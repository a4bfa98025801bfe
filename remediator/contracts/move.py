"""What one transaction on a run may change."""

from __future__ import annotations

from typing import Any

from remediator.model import (
    Approval,
    AuditEvent,
    Control,
    Instant,
    IntentOutcome,
    Message,
    Outcome,
    Plan,
    Progress,
    Reason,
    Severity,
    State,
    Struct,
)


class IntentUpdate(Struct, frozen=True, kw_only=True):
    number: int
    outcome: IntentOutcome
    evidence: dict[str, Any] = {}


class NewEffect(Struct, frozen=True, kw_only=True):
    """A lease to open. An open one on the same (target key, field) hands down its prior value."""

    field: str
    prior: Any
    current: Any
    plan: Plan
    expires_at: Instant


class Breaker(Struct, frozen=True, kw_only=True):
    """What opens if the last `ineffective` runs of the run's policy all ended without healing: the brake,
    with its audit event and messages. Counted in the transaction that ends the run."""

    ineffective: int
    control: Control
    event: AuditEvent
    messages: tuple[Message, ...] = ()


class Declaration(Struct, frozen=True, kw_only=True):
    """That a run needs an incident: one of its target that is open, or a new one.

    target: as people read it. target_key: the provider's identity where it is known.
    calling: the run ends and calls a person. Without it the incident is only opened ahead, and not
        again if the run has had one.
    by_person: only a person can say when this is over.
    """

    target: str
    target_key: str
    severity: Severity
    chain: str
    policy: str
    calling: bool = True
    by_person: bool = False


class Move(Struct, frozen=True, kw_only=True):
    """One transaction on a run: what changes, with its audit events and messages.

    state, next_at, progress: always given; an outcome ends the run (next_at is then None).
    An outcome also frees the run's target locks, unless a quarantine is in `controls`.
    effect_done: leases that end, each with what became of it.
    goes_on: the worker would go on with the run at once. A store may claim it anew for it in the same
        transaction: the run then has another epoch. Else it is handed back, and due.
    """

    state: State
    next_at: Instant | None
    progress: Progress
    outcome: Outcome | None = None
    reason: Reason | None = None
    observed: str = ""
    allowed: str = ""
    events: tuple[AuditEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    intents: tuple[IntentUpdate, ...] = ()
    effects: tuple[NewEffect, ...] = ()
    effect_done: tuple[tuple[int, str], ...] = ()
    effect_extend: tuple[int, Instant] | None = None
    controls: tuple[Control, ...] = ()
    ask: Approval | None = None
    """A question to people, under a number of `Store.approval_number`; the run waits for its answer."""
    breaker: Breaker | None = None
    incident: Declaration | None = None
    goes_on: bool = False
