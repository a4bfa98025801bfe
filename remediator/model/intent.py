"""Calls to the outside world: written down before, with what became of them."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

from remediator.model.alert import Alert
from remediator.model.plan import Plan
from remediator.model.time import Instant
from remediator.model.value import RunId, Struct


class IntentKind(StrEnum):
    APPLY = "apply"
    REVERT = "revert"
    RETURN = "return"


class IntentOutcome(StrEnum):
    """`pending` until known. Only `not_applied` leaves the budgets."""

    PENDING = "pending"
    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"


class Landed(StrEnum):
    """What an observation says of a call whose answer was lost."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNCLEAR = "unclear"


class Intent(Struct, frozen=True, kw_only=True):
    """The durable permission to call the outside world once: unique on (run, number).

    counted: False for a further step or chunk of an action that was already counted.
    """

    run: RunId
    number: int
    kind: IntentKind
    policy: str
    plan: Plan
    token: str
    nonce: str
    rung: int
    step: int
    created_at: Instant
    counted: bool = True
    outcome: IntentOutcome = IntentOutcome.PENDING
    outcome_at: Instant | None = None
    evidence: dict[str, Any] = {}


def token(policy: str, alert: Alert, number: int, purpose: str = "apply") -> str:
    """The idempotency token of one intent: the same for the same (policy, episode, number), so
    that a provider that deduplicates by token cannot be made to act twice, not even by two stores.

    Args:
        purpose: `apply`, or `return:<effect>` for the end of a lease, which counts its own numbers.
    """
    parts = (policy, alert.sender, alert.fingerprint, str(alert.starts_at), str(number), purpose)
    text = "\x00".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
