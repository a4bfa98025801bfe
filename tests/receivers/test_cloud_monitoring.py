"""Cloud Monitoring's schema 1.2 with its oddities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import PayloadError
from remediator.model import Alert, Instant, Status
from remediator.receivers.cloud_monitoring import CloudMonitoring
from remediator.settings import Sender

PAYLOADS = Path(__file__).parent.parent / "payloads"
OPEN = json.loads((PAYLOADS / "gcp-monitoring-1.2-open.json").read_text())
NOW = Instant(1_800_000_000_000)


def receiver(**settings: Any) -> CloudMonitoring:
    return CloudMonitoring({"gcp": Sender(kind="cloud_monitoring", **settings)})


def body(**changes: Any) -> bytes:
    return json.dumps({"version": "1.2", "incident": {**OPEN["incident"], **changes}}).encode()


def good(raw: bytes) -> Alert:
    parsed = receiver().parse("gcp", raw, NOW)
    assert parsed.bad == ()
    ((alert, _),) = parsed.alerts
    return alert


def test_reads_the_recorded_open_incident() -> None:
    alert = good((PAYLOADS / "gcp-monitoring-1.2-open.json").read_bytes())
    assert alert.fingerprint == "0.mx8f2k1q9z3a"
    assert alert.status is Status.FIRING
    assert alert.starts_at == 1_795_216_670_000
    assert alert.ends_at is None
    assert alert.value == 0.123
    assert alert.url.startswith("https://console.cloud.google.com/monitoring/alerting/incidents/")
    assert alert.labels == {
        "alertname": "High Error Rate",
        "severity": "P1",
        "sender_severity": "p1",
        "incident_severity": "Critical",
        "team": "sre",
        "project_id": "example-prod",
        "service_name": "film-api",
        "revision_name": "film-api-00042-abc",
        "location": "us-central1",
        "configuration_name": "film-api",
        "condition_name": "Error rate > 5%",
        "resource_name": "film-api",
        "resource_type": "cloud_run_revision",
        "metric_type": "logging.googleapis.com/user/error_rate",
    }
    assert alert.annotations["documentation"] == "See the high error rate runbook."
    assert alert.annotations["threshold_value"] == "0.05"


def test_the_test_notification_is_taken_and_holds_no_alert() -> None:
    parsed = receiver().parse("gcp", (PAYLOADS / "gcp-monitoring-test.json").read_bytes(), NOW)
    assert parsed.test
    assert parsed.alerts == ()
    assert parsed.bad == ()


def test_closed_is_not_recovered() -> None:
    alert = good(body(state="closed", ended_at=1_795_216_970))
    assert alert.status is Status.CLOSED
    assert alert.ends_at == 1_795_216_970_000
    assert alert.starts_at == 1_795_216_670_000


def test_an_open_incident_has_no_end() -> None:
    assert good(body(ended_at=0)).ends_at is None
    assert good(body(ended_at=1_795_216_970)).ends_at is None


def test_the_state_may_be_in_capitals() -> None:
    assert good(body(state="OPEN")).status is Status.FIRING


@pytest.mark.parametrize("started", [1_795_216_670, "1795216670", 1_795_216_670.0])
def test_seconds_may_be_a_number_or_text(started: Any) -> None:
    assert good(body(started_at=started)).starts_at == 1_795_216_670_000


def test_a_start_in_the_future_stays_what_was_sent() -> None:
    assert good(body(started_at=4_000_000_000)).starts_at == 4_000_000_000_000


@pytest.mark.parametrize(
    ("sent", "expected"), [("0.123", 0.123), (0.5, 0.5), (None, None), ("", None), ("NaN", None)]
)
def test_the_observed_value_is_text_or_number(sent: Any, expected: float | None) -> None:
    assert good(body(observed_value=sent)).value == expected


def test_a_promql_policy_has_its_value_among_the_metrics_labels() -> None:
    metric = {"type": "__missing__", "labels": {"value": "57.5", "queue": "prod-jobs"}}
    alert = good(body(metric=metric, observed_value=None))
    assert alert.value == 57.5
    assert alert.labels["queue"] == "prod-jobs"
    assert "value" not in alert.labels
    assert "metric_type" not in alert.labels


def test_of_equal_labels_the_stronger_wins_and_the_loser_is_kept() -> None:
    alert = good(
        body(
            policy_user_labels={"location": "user", "team": "sre"},
            metric={"type": "m", "labels": {"location": "metric", "code": "500"}},
            resource={"type": "r", "labels": {"location": "resource", "code": "404", "zone": "z"}},
        )
    )
    assert alert.labels["location"] == "user"
    assert alert.labels["metric_location"] == "metric"
    assert alert.labels["resource_location"] == "resource"
    assert alert.labels["code"] == "500"
    assert alert.labels["resource_code"] == "404"
    assert alert.labels["zone"] == "z"


def test_equal_values_lose_nothing() -> None:
    alert = good(body(policy_user_labels={"location": "us-central1"}))
    assert "resource_location" not in alert.labels


@pytest.mark.parametrize("layer", ["policy_user_labels", "metric", "resource"])
def test_no_label_overrides_the_alertname(layer: str) -> None:
    labels = {"alertname": "Forged"}
    change = labels if layer == "policy_user_labels" else {"type": "t", "labels": labels}
    alert = good(body(**{layer: change}))
    assert alert.labels["alertname"] == "High Error Rate"
    prefix = layer.removeprefix("policy_").removesuffix("_labels")
    assert alert.labels[f"{prefix}_alertname"] == "Forged"


def test_severity_falls_back_to_the_incidents() -> None:
    alert = good(body(policy_user_labels={}, severity="Warning"))
    assert alert.labels["severity"] == "P3"
    assert alert.labels["sender_severity"] == "Warning"
    assert good(body(policy_user_labels=None, severity="No Severity")).labels["severity"] == "P3"


def test_documentation_may_be_text_or_missing() -> None:
    assert good(body(documentation="plain")).annotations["documentation"] == "plain"
    assert "documentation" not in good(body(documentation=None)).annotations


def test_unknown_fields_are_ignored() -> None:
    assert good(body(apigee_url="x", brand_new={"deep": []})).fingerprint == "0.mx8f2k1q9z3a"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"state": "ajar"}, "incident.state"),
        ({"state": None}, "incident.state"),
        ({"incident_id": ""}, "incident.incident_id"),
        ({"incident_id": None}, "incident.incident_id"),
        ({"incident_id": "x" * 300}, "incident.incident_id"),
        ({"started_at": 0}, "incident.started_at"),
        ({"started_at": "soon"}, "incident.started_at"),
        ({"started_at": -5}, "incident.started_at"),
        ({"started_at": 1e15}, "incident.started_at"),
        ({"ended_at": "later", "state": "closed"}, "incident.ended_at"),
        ({"resource": "film-api"}, "incident.resource"),
        ({"resource": {"labels": {"a": {}}}}, "incident.resource.labels.a"),
        ({"policy_user_labels": ["a"]}, "incident.policy_user_labels"),
        ({"policy_user_labels": {"a": "\0"}}, "incident.labels.a"),
        ({"summary": "\0"}, "incident.annotations.summary"),
    ],
)
def test_a_bad_incident_is_handed_back_with_its_field(change: dict[str, Any], field: str) -> None:
    raw = body(**change)
    parsed = receiver().parse("gcp", raw, NOW)
    assert parsed.alerts == ()
    (bad,) = parsed.bad
    assert bad.field == field
    assert bad.message
    assert bad.body == raw


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"\xff\xfe", ""),
        (b'{"incident":{}}', "version"),
        (b'{"version":"2.0","incident":{}}', "version"),
        (b'{"version":1.2,"incident":{}}', "version"),
        (b'{"version":"1.2"}', "incident"),
        (b'{"version":"1.2","incident":[]}', "incident"),
        (b'{"version":"1.2","incident":' + b"[" * 100_000, ""),
    ],
)
def test_an_envelope_that_cannot_be_read_is_a_payload_error(raw: bytes, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        receiver().parse("gcp", raw, NOW)
    assert caught.value.field == field


def test_a_repeat_has_the_same_digest_and_a_stored_body_reads_the_same() -> None:
    gcp = receiver()
    raw = body()
    first, again = gcp.parse("gcp", raw, NOW), gcp.parse("gcp", raw, NOW)
    assert first == again
    assert gcp.parse("gcp", body(state="closed"), NOW).alerts[0][1] != first.alerts[0][1]
    assert gcp.alert("gcp", raw, 0, NOW) == first.alerts[0][0]


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(OPEN["incident"])), _json, max_size=4))
def test_each_incident_is_either_good_or_handed_back(changes: dict[str, Any]) -> None:
    try:
        parsed = receiver().parse("gcp", body(**changes), NOW)
    except PayloadError as error:
        assert "out of range" in str(error)  # noqa: PT017 - the only way it may fail
        return
    assert len(parsed.alerts) + len(parsed.bad) == 1
