"""Why something waits, was refused or has ended."""

from __future__ import annotations

from enum import StrEnum


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


class Verdict(StrEnum):
    """No data is never HEALED."""

    HEALED = "healed"
    NOT_HEALED = "not_healed"
    UNKNOWN = "unknown"
