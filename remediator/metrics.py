"""The daemon's own Prometheus metrics, in one registry of its own.

Label values are enumerated or names from settings and policies; a target is never a label.
Enumerated series start at zero, so that a rate over them is right from the first event.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest

from remediator import __version__
from remediator.model import ControlKind, Outcome, Reason, Severity

REGISTRY = CollectorRegistry(auto_describe=True)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

RESULTS = (
    "accepted",
    "repeated",
    "resolved",
    "updated",
    "rejected",
    "unauthenticated",
    "unavailable",
    "flooded",
)
"""What became of an alert, or of a body that held none."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

ALERTS = Counter(
    "remediator_alerts",
    "Alerts received, by sender and what became of them",
    ["sender", "result"],
    registry=REGISTRY,
)
TRUNCATED = Counter(
    "remediator_truncated_alerts", "Alerts that senders say they left out", ["sender"], registry=REGISTRY
)
RUNS = Counter(
    "remediator_runs", "Runs that ended, by policy and outcome", ["policy", "outcome"], registry=REGISTRY
)
REFUSALS = Counter("remediator_refusals", "Runs refused, by reason", ["reason"], registry=REGISTRY)
WAITS = Counter("remediator_waits", "Times a run began to wait, by reason", ["reason"], registry=REGISTRY)
NOTIFICATIONS = Counter(
    "remediator_notifications",
    "Notifications, by notifier and result",
    ["notifier", "result"],
    registry=REGISTRY,
)
NOTIFIER_FAILING = Gauge(
    "remediator_notifier_failing",
    "1 while a notifier delivers nothing, for longer than notifications.failing_after",
    ["notifier"],
    registry=REGISTRY,
)
OPEN_INCIDENTS = Gauge(
    "remediator_open_incidents",
    "Incidents that are not resolved, by severity",
    ["severity"],
    registry=REGISTRY,
)
OVERDUE_INCIDENTS = Gauge(
    "remediator_overdue_incidents",
    "Open incidents that nobody acknowledged in time",
    registry=REGISTRY,
)
ACTION_SECONDS = Histogram(
    "remediator_action_duration_seconds",
    "How long actions took to apply",
    ["action", "outcome"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
CHECK_SECONDS = Histogram(
    "remediator_check_duration_seconds",
    "How long checks took to answer",
    ["check", "outcome"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "remediator_store_duration_seconds",
    "How long store operations took, commit included",
    ["operation"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
OLDEST_DUE_SECONDS = Gauge(
    "remediator_oldest_due_run_seconds", "How long the oldest due run has been unclaimed", registry=REGISTRY
)
OPEN_RUNS = Gauge("remediator_open_runs", "Runs that have not ended", registry=REGISTRY)
OUTBOX_AGE_SECONDS = Gauge(
    "remediator_outbox_age_seconds", "Age of the oldest notification that is not sent", registry=REGISTRY
)
SEAL_LAG_SECONDS = Gauge(
    "remediator_audit_seal_lag_seconds",
    "Age of the oldest audit record that is not sealed",
    registry=REGISTRY,
)
STORE_UP = Gauge("remediator_store_up", "1 while the store takes writes", registry=REGISTRY)
STORE_MEASURED_TIMESTAMP_SECONDS = Gauge(
    "remediator_store_measured_timestamp_seconds",
    "When the gauges about runs, outbox and audit were measured; they are NaN where that failed",
    registry=REGISTRY,
)
REDIS_UP = Gauge("remediator_redis_up", "1 while Redis answers; 0 also where none is set", registry=REGISTRY)
TASK_FAILURES = Counter(
    "remediator_task_failures",
    "Faults of the daemon's own tasks; each goes on after one, with back-off",
    ["task"],
    registry=REGISTRY,
)
TASK_FAILING = Gauge(
    "remediator_task_failing",
    "1 from a fault of one of the daemon's own tasks until it is well again",
    ["task"],
    registry=REGISTRY,
)
CHAIN_HEAD = Info("remediator_audit_chain_head", "Head of the sealed audit chain", registry=REGISTRY)
POLICIES = Gauge("remediator_policies", "Policies that are loaded", registry=REGISTRY)
POLICY_SET = Info("remediator_policy_set", "Hash of the policies that are loaded", registry=REGISTRY)
POLICIES_LOADED_TIMESTAMP_SECONDS = Gauge(
    "remediator_policies_loaded_timestamp_seconds", "When the active policies were loaded", registry=REGISTRY
)
POLICIES_REJECTED = Gauge(
    "remediator_policies_rejected", "1 while the policy directory cannot be loaded", registry=REGISTRY
)
BREAKER_OPEN = Gauge(
    "remediator_breaker_open",
    "1 while a policy is demoted because its runs did not heal",
    ["policy"],
    registry=REGISTRY,
)
BRAKES = Gauge(
    "remediator_brakes",
    "Brakes that are on, by kind: pause, quarantine, breaker, storm",
    ["kind"],
    registry=REGISTRY,
)
BUILD_INFO = Gauge(
    "remediator_build_info", "Always 1; the version is a label", ["version"], registry=REGISTRY
)

STORE = {
    name: STORE_SECONDS.labels(name)
    for name in ("accept", "admit", "move", "decide", "incident", "write", "read")
}
"""The series of each operation: `accept` takes a delivery, `write` is any change without its own name."""

BUILD_INFO.labels(__version__).set(1)
for _kind in ControlKind:
    BRAKES.labels(_kind.value)
for _severity in Severity:
    OPEN_INCIDENTS.labels(_severity.value)
for _reason in Reason:
    REFUSALS.labels(_reason.value)
    WAITS.labels(_reason.value)


def declare(senders: Iterable[str] = (), policies: Iterable[str] = (), notifiers: Iterable[str] = ()) -> None:
    """Start the series of these names at zero (called when settings or policies are loaded)."""
    for sender in senders:
        TRUNCATED.labels(sender)
        for result in RESULTS:
            ALERTS.labels(sender, result)
    for policy in policies:
        BREAKER_OPEN.labels(policy)
        for outcome in Outcome:
            RUNS.labels(policy, outcome.value)
    for notifier in notifiers:
        NOTIFIER_FAILING.labels(notifier)
        for result in ("sent", "failed", "abandoned"):
            NOTIFICATIONS.labels(notifier, result)


def ended(policy: str, outcome: str, reason: str | None) -> None:
    """Count a run that has ended."""
    RUNS.labels(policy, outcome).inc()
    if outcome == Outcome.REFUSED and reason is not None:
        REFUSALS.labels(reason).inc()


def render() -> bytes:
    """The text that /metrics answers with, of content type CONTENT_TYPE."""
    return generate_latest(REGISTRY)
