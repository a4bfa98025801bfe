"""The words of the domain as frozen values. No I/O, no clock, no policy.

Instants are integer milliseconds since 1970-01-01 UTC; spans are integer milliseconds.
Everything the store keeps as JSON is one of these structs, encoded by msgspec.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NewType

import msgspec

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""
Millis = NewType("Millis", int)
"""A span of time in milliseconds."""
AlertId = NewType("AlertId", int)
RunId = NewType("RunId", int)
IncidentId = NewType("IncidentId", int)

SECOND = Millis(1_000)
MINUTE = Millis(60_000)
HOUR = Millis(3_600_000)
DAY = Millis(86_400_000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all values: frozen, keyword-only, cheap to encode."""


class Status(StrEnum):
    """What a sender says of an alert. `closed` means that the data stopped: it is not recovery."""

    FIRING = "firing"
    RESOLVED = "resolved"
    CLOSED = "closed"


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


class Reason(StrEnum):
    """Why something happened, or did not. Enumerated, so that it can be counted and asked for."""

    # waiting: tried again until the alert resolves or `give_up` passes
    HOLDING = "holding"
    LOCK_BUSY = "lock_busy"
    CONCURRENCY = "concurrency"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    WINDOW = "window"
    STORM = "storm"
    PAUSED = "paused"
    BREAKER = "breaker"
    CHECK_FALSE = "check_false"
    CHECK_UNANSWERED = "check_unanswered"
    TEMPORARY_FAILURE = "temporary_failure"
    STALE_ALERT = "stale_alert"
    APPROVAL_PENDING = "approval_pending"
    POLICIES_CHANGED = "policies_changed"
    # refusing: at once
    UNKNOWN_LABEL = "unknown_label"
    INVALID_PARAMETER = "invalid_parameter"
    UNKNOWN_CONNECTION = "unknown_connection"
    MISSING_TARGET = "missing_target"
    BOUND_EXCEEDED = "bound_exceeded"
    BLAST_RADIUS = "blast_radius"
    QUARANTINED = "quarantined"
    OPEN_RUNS = "open_runs"
    GAVE_UP = "gave_up"
    CHANGED_BY_PERSON = "changed_by_person"
    MANAGED_ELSEWHERE = "managed_elsewhere"
    IRREVERSIBLE = "irreversible"
    FLAPPING = "flapping"
    APPROVAL_REJECTED = "approval_rejected"
    APPROVAL_EXPIRED = "approval_expired"
    # cancelling
    ALERT_RESOLVED = "alert_resolved"
    POLICY_REMOVED = "policy_removed"
    POLICY_DEMOTED = "policy_demoted"
    CANCELLED_BY_PERSON = "cancelled_by_person"
    # acting and after
    PLANNED_ONLY = "planned_only"
    NOTHING_TO_DO = "nothing_to_do"
    ACTION_FAILED = "action_failed"
    ACTION_UNKNOWN = "action_unknown"
    SETTLE_TIMEOUT = "settle_timeout"
    HEALED = "healed"
    UNVERIFIED = "unverified"
    NOT_HEALED = "not_healed"
    VERIFY_UNKNOWN = "verify_unknown"
    LEASE_EXPIRED = "lease_expired"
    LEASE_EXTENDED = "lease_extended"
    LEASE_STILL_NEEDED = "lease_still_needed"
    LEASE_CLOSED = "lease_closed"
    RETURNED_BY_PERSON = "returned_by_person"


class Risk(StrEnum):
    READ = "read"
    REVERSIBLE = "reversible"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"


class Verdict(StrEnum):
    """No data is never HEALED."""

    HEALED = "healed"
    NOT_HEALED = "not_healed"
    UNKNOWN = "unknown"


class Landed(StrEnum):
    """What an observation says of a call whose answer was lost."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNCLEAR = "unclear"


class Origin(StrEnum):
    """What opened a run: an alert, a person (`runs start`), or the end of a lease."""

    ALERT = "alert"
    HAND = "hand"
    LEASE = "lease"


class Alert(msgspec.Struct, frozen=True, gc=False):
    """One alert of one delivery, as a receiver parsed it. `value` is what the sender reported.

    gc=False: the intake path makes tens of thousands a second, and they hold no cycles.
    """

    sender: str
    fingerprint: str
    status: Status
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: Instant
    ends_at: Instant | None = None
    value: float | None = None
    url: str = ""


class Episode(Struct, frozen=True, kw_only=True):
    """A stored alert: one episode of one problem, identified by (sender, fingerprint, starts_at).

    seen_at is the latest delivery that this process knows of, repeats included; None after a
    restart until it is delivered again.
    """

    id: AlertId
    alert: Alert
    received_at: Instant
    resolved_at: Instant | None
    seen_at: Instant | None
    policy_revision: str

    @property
    def firing(self) -> bool:
        return self.alert.status is Status.FIRING


class Target(Struct, frozen=True, kw_only=True):
    """What an action changes. `key` is the provider's own identity (locks and budgets use it);
    `name` is what people read, e.g. `postgres:orders`."""

    name: str
    key: str


class Blast(Struct, frozen=True, kw_only=True):
    """How much of the target a plan touches: `amount` of `whole` (None where unknown) in `unit`."""

    amount: float
    whole: float | None
    unit: str


class Plan(Struct, frozen=True, kw_only=True):
    """Exactly what will be done. Pure data; stored with the intent and shown to approvers.

    before, after: the declared fields, from and to.
    version: the provider's etag or resourceVersion at observation, None where there is none.
    params: the validated parameters, to observe the same thing again.
    more: another step or chunk follows after this one has settled.
    detail: what `apply` needs beyond before and after (pids with their backend_start, …).
    """

    action: str
    target: Target
    before: dict[str, Any]
    after: dict[str, Any]
    blast: Blast
    params: dict[str, Any]
    version: str | None = None
    more: bool = False
    detail: dict[str, Any] = {}
    note: str = ""


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


class AuditEvent(Struct, frozen=True, kw_only=True):
    """One line of the audit log, before the store gives it an id and a time. Kind is noun.verb."""

    kind: str
    actor: str = "daemon"
    alert: AlertId | None = None
    run: RunId | None = None
    policy: str | None = None
    target: str | None = None
    reason: str | None = None
    observed: str | None = None
    allowed: str | None = None
    data: dict[str, Any] = {}


class AuditRecord(Struct, frozen=True, kw_only=True):
    """A stored audit event. Ids of deliveries and of events are told apart by `source`."""

    id: int
    at: Instant
    event: AuditEvent
    source: str = "audit_event"


class Message(Struct, frozen=True, kw_only=True):
    """A notification in the outbox: to whom (a chain, or notifiers by name), about what.

    notifiers: exactly these; where there are none, the first step of the chain is resolved when the
        message is sent.
    public: for customers, so that nothing of ours may be added to it.
    """

    chain: str
    severity: Severity
    subject: str
    body: str
    run: RunId | None = None
    alert: AlertId | None = None
    incident: IncidentId | None = None
    notifiers: tuple[str, ...] = ()
    public: bool = False


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


DAEMON = "daemon"
"""The chain of what the daemon has to say about itself. Where escalation.yaml has none of that name,
every notifier is told."""


class ControlKind(StrEnum):
    PAUSE = "pause"
    QUARANTINE = "quarantine"
    BREAKER = "breaker"
    STORM = "storm"


class Control(Struct, frozen=True, kw_only=True):
    """A brake that is on: kind and scope ("" for the daemon, `policy:NAME`, `target:KEY`)."""

    kind: ControlKind
    scope: str
    reason: str
    actor: str
    since: Instant
    until: Instant | None = None
    data: dict[str, Any] = {}


LEFT_TO_PERSON = "left to a person"
"""What became of a lease that nobody returns by itself any more; a person still may."""


class Effect(Struct, frozen=True, kw_only=True):
    """A lease: the prior value of one field of one target, and when it goes back.

    lent_at: None where a former version wrote the row.
    return_run: the run that puts it back, once there is one. recalled_by: who wanted it back early.
    """

    id: int
    run: RunId
    policy: str
    target: Target
    field: str
    prior: Any
    current: Any
    plan: Plan
    expires_at: Instant
    extended: bool = False
    returned_at: Instant | None = None
    outcome: str = ""
    lent_at: Instant | None = None
    return_run: RunId | None = None
    renewed_at: Instant | None = None
    renewed_by: str = ""
    renewals: int = 0
    recalled_by: str = ""


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


class Budget(Struct, frozen=True, kw_only=True):
    """At most `count` within any `window` milliseconds (a sliding window)."""

    count: int
    window: Millis

    def __str__(self) -> str:
        return f"{self.count} per {span(self.window)}"


class Sample(Struct, frozen=True, kw_only=True):
    """One measured value and when it was measured."""

    at: Instant
    value: float


class Reading(Struct, frozen=True, kw_only=True):
    """What a check returned: samples with their unit. Empty means no data, never zero."""

    samples: tuple[Sample, ...]
    unit: str = ""
    note: str = ""


def moment(at: Instant) -> str:
    """2026-01-15T10:11:12.345Z"""
    found = _EPOCH + timedelta(milliseconds=at)
    return found.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def span(millis: int) -> str:
    """A span as people write it: 90000 → `1m30s`, 7200000 → `2h`."""
    if millis == 0:
        return "0s"
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def token(policy: str, alert: Alert, number: int, purpose: str = "apply") -> str:
    """The idempotency token of one intent: the same for the same (policy, episode, number), so
    that a provider that deduplicates by token cannot be made to act twice, not even by two stores.

    Args:
        purpose: `apply`, or `return:<effect>` for the end of a lease, which counts its own numbers.
    """
    parts = (policy, alert.sender, alert.fingerprint, str(alert.starts_at), str(number), purpose)
    text = "\x00".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def flat(values: Mapping[str, Any]) -> str:
    """A mapping for people: `desired=3 max=10`."""
    return " ".join(f"{key}={value}" for key, value in values.items())
