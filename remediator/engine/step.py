"""What a state's handler answers: the seven things that can come next for a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from remediator.contracts import IntentUpdate, NewEffect
from remediator.model import (
    Approval,
    AuditEvent,
    Control,
    Instant,
    Intent,
    IntentKind,
    Message,
    Mode,
    Outcome,
    Plan,
    Progress,
    Reason,
    State,
)


@dataclass(frozen=True, slots=True)
class Extra:
    """What a move writes besides the run itself."""

    intents: tuple[IntentUpdate, ...] = ()
    effects: tuple[NewEffect, ...] = ()
    effect_done: tuple[tuple[int, str], ...] = ()
    effect_extend: tuple[int, Instant] | None = None
    controls: tuple[Control, ...] = ()
    ask: Approval | None = None
    messages: tuple[Message, ...] = ()

    def __add__(self, other: Extra) -> Extra:
        return Extra(
            intents=self.intents + other.intents,
            effects=self.effects + other.effects,
            effect_done=self.effect_done + other.effect_done,
            effect_extend=other.effect_extend or self.effect_extend,
            controls=self.controls + other.controls,
            ask=other.ask or self.ask,
            messages=self.messages + other.messages,
        )


NO_EXTRA = Extra()


@dataclass(frozen=True, slots=True)
class Go:
    """Carry on in `state` at once; written together with the next move that waits or ends."""

    state: State
    progress: Progress
    events: tuple[AuditEvent, ...] = ()
    extra: Extra = NO_EXTRA


@dataclass(frozen=True, slots=True)
class Later:
    """Write, and come back at `next_at`. Not a refusal and not a wait for a brake: a timer."""

    state: State
    next_at: Instant
    progress: Progress
    events: tuple[AuditEvent, ...] = ()
    reason: Reason | None = None
    observed: str = ""
    allowed: str = ""
    extra: Extra = NO_EXTRA


@dataclass(frozen=True, slots=True)
class Wait:
    """A brake or a check says not now. Tried again until the alert resolves or `give_up` passes."""

    reason: Reason
    observed: str
    allowed: str
    until: Instant | None = None
    events: tuple[AuditEvent, ...] = ()
    extra: Extra = NO_EXTRA


@dataclass(frozen=True, slots=True)
class Fail:
    """This run's remedies did not do it. The ladder decides: the next rung, revert, or a person.

    ladder: whether the next rung may still be tried.
    """

    reason: Reason
    observed: str
    allowed: str
    note: str
    ladder: bool = False
    events: tuple[AuditEvent, ...] = ()
    extra: Extra = NO_EXTRA


@dataclass(frozen=True, slots=True)
class End:
    """The run is over."""

    outcome: Outcome
    reason: Reason | None
    observed: str = ""
    allowed: str = ""
    note: str = ""
    events: tuple[AuditEvent, ...] = ()
    extra: Extra = NO_EXTRA
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admit:
    """Everything is gathered: ask the store for the permission to act."""

    plan: Plan
    kind: IntentKind
    counted: bool
    progress: Progress
    events: tuple[AuditEvent, ...] = ()
    purpose: str = "apply"
    """Goes into the idempotency token, beside policy, episode and number."""
    leases: tuple[int, ...] = ()
    """The effects that this puts back: ADMIT makes sure that they are still this run's to return."""
    names: tuple[str, ...] = ()
    """Every name by which the target is known."""
    mode: Mode = Mode.ENFORCE
    """The one under which the guards were asked."""
    approval: int | None = None
    """The approval that it rests on."""


@dataclass(frozen=True, slots=True)
class Reissue:
    """An intent that is provably not applied, and whose provider deduplicates: call it again with
    its own token."""

    intent: Intent
    events: tuple[AuditEvent, ...] = ()


Step = Go | Later | Wait | Fail | End | Admit | Reissue
