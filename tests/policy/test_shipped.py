"""The shipped policies load, are modest, and match what their senders really send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remediator.catalogue import scan
from remediator.model import Alert, Instant, Mode
from remediator.policy.load import read_dir
from remediator.policy.set import PolicySet, compile_set
from remediator.policy.template import render
from remediator.policy.vocabulary import Vocabulary
from remediator.receivers.alertmanager import Alertmanager
from remediator.receivers.cloud_monitoring import CloudMonitoring
from remediator.settings import Sender

POLICIES = Path(__file__).parents[2] / "policies"
NOW = Instant(1_800_000_000_000)
CATALOGUE = scan()
VOCABULARY = Vocabulary(
    catalogue=CATALOGUE,
    # as in the README's and the design's example settings, and no notifier: the log is always there
    connections={
        "aws-prod": "aws",
        "cluster": "kubernetes",
        "gcp-prod": "gcp",
        "orders": "postgres",
        "prometheus": "prometheus",
    },
    senders=frozenset({"alertmanager-prod", "gcp-prod"}),
)


@pytest.fixture(scope="module")
def shipped() -> PolicySet:
    return compile_set(read_dir(POLICIES), VOCABULARY)


def test_all_load_without_a_warning(shipped: PolicySet) -> None:
    assert set(shipped.policies) == {
        "connection-pool-cancel-long-queries",
        "gpu-queue-depth-scale-out",
        "high-error-rate-shift-traffic",
        "queue-depth-scale-deployment",
    }
    assert shipped.warnings == ()
    assert "on-call" in shipped.escalation.chains


def test_all_observe_and_are_complete(shipped: PolicySet) -> None:
    for policy in shipped.policies.values():
        assert policy.mode is Mode.OBSERVE, policy.name
        assert policy.from_, policy.name
        assert policy.when, policy.name
        assert policy.verify is not None, policy.name
        assert policy.description, policy.name
        assert policy.runbook, policy.name
        assert policy.owner, policy.name
        assert policy.escalate in shipped.escalation.chains, policy.name


def test_all_can_be_set_to_enforce() -> None:
    files = {
        name: text.replace("mode: observe", "mode: enforce") for name, text in read_dir(POLICIES).items()
    }
    assert all(policy.mode is Mode.ENFORCE for policy in compile_set(files, VOCABULARY).policies.values())


def test_each_begins_with_the_comment_that_makes_editors_complete_it(shipped: PolicySet) -> None:
    for name in shipped.policies:
        first = (POLICIES / f"{name}.yaml").read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=policy.schema.json"


def alertmanager(**labels: str) -> Alert:
    """As a real Alertmanager sends it."""
    body = {
        "version": "4",
        "status": "firing",
        "receiver": "hook",
        "groupKey": "{}",
        "truncatedAlerts": 0,
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": "firing",
                "labels": {**labels, "severity": "critical"},
                "annotations": {},
                "startsAt": "2026-11-20T23:17:50.632Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph",
                "fingerprint": "294b9201dbd2a1b6",
            }
        ],
    }
    senders = {"alertmanager-prod": Sender(kind="alertmanager")}
    parsed = Alertmanager(senders).parse("alertmanager-prod", json.dumps(body).encode(), NOW)
    ((found, _),) = parsed.alerts
    return found


def cloud_monitoring() -> Alert:
    """An incident of schema 1.2, with the fields that the policy relies on."""
    body = {
        "version": "1.2",
        "incident": {
            "incident_id": "0.mx8f2k1q9z3a",
            "scoping_project_id": "example-prod",
            "url": "https://console.cloud.google.com/monitoring/alerting/incidents/0.mx8f2k1q9z3a",
            "severity": "Critical",
            "started_at": 1795216670,
            "ended_at": None,
            "state": "open",
            "summary": "Error rate for film-api is above the threshold of 0.05 with a value of 0.123.",
            "resource": {
                "type": "cloud_run_revision",
                "labels": {
                    "project_id": "example-prod",
                    "service_name": "film-api",
                    "revision_name": "film-api-00042-abc",
                    "location": "us-central1",
                },
            },
            "metric": {"type": "logging.googleapis.com/user/error_rate", "labels": {}},
            "policy_name": "High Error Rate",
            "condition_name": "Error rate > 5%",
            "threshold_value": "0.05",
            "observed_value": "0.123",
        },
    }
    senders = {"gcp-prod": Sender(kind="cloud_monitoring")}
    parsed = CloudMonitoring(senders).parse("gcp-prod", json.dumps(body).encode(), NOW)
    assert parsed.bad == ()
    ((found, _),) = parsed.alerts
    return found


def test_the_error_rate_policy_acts_on_the_service_of_the_incident(shipped: PolicySet) -> None:
    found = cloud_monitoring()
    (policy,) = shipped.match(found)
    assert policy.name == "high-error-rate-shift-traffic"
    (use,) = policy.remedies[0].actions
    action = CATALOGUE.action(use.action)
    assert action is not None
    params = render(use.with_, action.params, found).model_dump()
    assert (params["region"], params["service"]) == ("us-central1", "film-api")
    check = CATALOGUE.check(policy.when[0].check)
    assert check is not None
    labels = render(policy.when[0].with_, check.params, found).model_dump()["resource_labels"]
    assert labels == {"service_name": "film-api", "location": "us-central1"}


@pytest.mark.parametrize(
    ("labels", "policy", "target"),
    [
        (
            {"alertname": "PostgresConnectionPoolHigh", "database": "orders"},
            "connection-pool-cancel-long-queries",
            "postgres:orders",
        ),
        (
            {"alertname": "QueueDepthHigh", "queue": "prod-jobs"},
            "gpu-queue-depth-scale-out",
            "autoscaling:aws-prod/prod-gpu-workers",
        ),
        (
            {"alertname": "QueueDepthHigh", "queue": "images", "namespace": "jobs"},
            "queue-depth-scale-deployment",
            "kubernetes:cluster/jobs/deployment/gpu-worker",
        ),
    ],
)
def test_the_others_match_what_alertmanager_sends(
    shipped: PolicySet, labels: dict[str, str], policy: str, target: str
) -> None:
    found = alertmanager(**labels)
    (matched,) = shipped.match(found)
    assert matched.name == policy
    use = matched.remedies[0].actions[0]
    action = CATALOGUE.action(use.action)
    assert action is not None
    assert action.target_name(render(use.with_, action.params, found)) == target


def test_an_alert_of_something_else_matches_none(shipped: PolicySet) -> None:
    assert shipped.match(alertmanager(alertname="DiskFull", database="orders")) == ()
    assert shipped.match(alertmanager(alertname="QueueDepthHigh", queue="test-jobs")) == ()
