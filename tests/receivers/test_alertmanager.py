"""What Alertmanager really sends, and what only an attacker would."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import PayloadError
from remediator.model import Alert, Instant, Status
from remediator.receivers.alertmanager import Alertmanager
from remediator.receivers.reading import MAX_LABEL, MAX_LABELS
from remediator.settings import Sender, Value

PAYLOADS = Path(__file__).parent.parent / "payloads"
NOW = Instant(1_800_000_000_000)


def millis(*parts: int) -> int:
    """Year to microsecond, in UTC."""
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


def receiver(**settings: Any) -> Alertmanager:
    return Alertmanager({"am": Sender(kind="alertmanager", **settings)})


def one(**changes: Any) -> dict[str, Any]:
    """One alert as sent."""
    return {
        "status": "firing",
        "labels": {"alertname": "DiskFull", "instance": "a:9100", "severity": "critical"},
        "annotations": {"summary": "full"},
        "startsAt": "2026-01-15T10:11:12.345Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "f00d",
        **changes,
    }


def body(*alerts: Any, **changes: Any) -> bytes:
    return json.dumps({"version": "4", "alerts": list(alerts), "truncatedAlerts": 0, **changes}).encode()


def good(raw: bytes, **settings: Any) -> Alert:
    parsed = receiver(**settings).parse("am", raw, NOW)
    assert parsed.bad == ()
    ((alert, _),) = parsed.alerts
    return alert


def fault(*alerts: Any) -> tuple[str, str]:
    """(field, message) of the only bad alert."""
    (bad,) = receiver().parse("am", body(*alerts), NOW).bad
    return bad.field, bad.message


def test_reads_the_recorded_firing_payload() -> None:
    alert = good((PAYLOADS / "alertmanager-v4-firing.json").read_bytes())
    assert alert == Alert(
        sender="am",
        fingerprint="294b9201dbd2a1b6",
        status=Status.FIRING,
        labels={
            "alertname": "HighErrorRate",
            "cluster": "test",
            "instance": "127.0.0.1:39100",
            "job": "app",
            "service": "checkout",
            "severity": "P1",
            "sender_severity": "critical",
        },
        annotations={
            "runbook_url": "https://runbooks.example/x",
            "summary": "error ratio 0.9 on 127.0.0.1:39100",
        },
        starts_at=Instant(millis(2026, 11, 20, 23, 17, 50, 632_000)),
        ends_at=None,
        value=None,
        url="http://prometheus.example:39090/graph?g0.expr=app_error_ratio+%3E+0.5&g0.tab=1",
    )


def test_the_resolved_payload_is_the_same_episode() -> None:
    firing = good((PAYLOADS / "alertmanager-v4-firing.json").read_bytes())
    resolved = good((PAYLOADS / "alertmanager-v4-resolved.json").read_bytes())
    assert (resolved.sender, resolved.fingerprint, resolved.starts_at) == (
        firing.sender,
        firing.fingerprint,
        firing.starts_at,
    )
    assert resolved.status is Status.RESOLVED
    assert resolved.ends_at == millis(2026, 11, 20, 23, 17, 54, 132_000)


def test_each_alert_has_its_own_status() -> None:
    raw = body(one(fingerprint="a"), one(fingerprint="b", status="resolved"), status="firing")
    parsed = receiver().parse("am", raw, NOW)
    assert [alert.status for alert, _ in parsed.alerts] == [Status.FIRING, Status.RESOLVED]


def test_a_firing_alert_has_no_end_even_if_one_is_guessed() -> None:
    assert good(body(one(endsAt="2026-01-15T10:15:12Z"))).ends_at is None


def test_truncated_alerts_are_reported_and_those_sent_are_taken() -> None:
    parsed = receiver().parse("am", body(one(), truncatedAlerts=7), NOW)
    assert parsed.truncated == 7
    assert len(parsed.alerts) == 1


def test_the_receivers_name_and_unknown_fields_do_not_matter() -> None:
    raw = body(
        one(silencedBy=[], extra={"deep": [1, None]}),
        receiver=r"web\.hook",
        notification_reason="repeat",
        routeLabels={"a": "b"},
        groupKey=None,
    )
    assert good(raw).fingerprint == "f00d"


@pytest.mark.parametrize("field", ["annotations", "endsAt", "generatorURL"])
def test_what_is_not_needed_may_be_missing(field: str) -> None:
    alert = one()
    del alert[field]
    assert good(body(alert)).fingerprint == "f00d"


def test_null_annotations_are_none() -> None:
    assert good(body(one(annotations=None))).annotations == {}


def test_no_alerts_at_all_is_a_readable_body() -> None:
    assert receiver().parse("am", body(), NOW).alerts == ()
    assert receiver().parse("am", b'{"version":"4","alerts":null}', NOW).alerts == ()


def test_a_start_in_the_future_stays_what_was_sent() -> None:
    """The store counts it as the time of receipt, and knows the episode again by what was sent."""
    assert good(body(one(startsAt="2999-01-01T00:00:00Z"))).starts_at == millis(2999, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-15T10:11:12Z", millis(2026, 1, 15, 10, 11, 12)),
        ("2026-01-15T10:11:12.1Z", millis(2026, 1, 15, 10, 11, 12, 100_000)),
        ("2026-01-15T10:11:12.123456789Z", millis(2026, 1, 15, 10, 11, 12, 123_000)),
        ("2026-01-15T10:11:12.345+02:00", millis(2026, 1, 15, 8, 11, 12, 345_000)),
        ("2026-01-15T10:11:12-05:30", millis(2026, 1, 15, 15, 41, 12)),
        ("2026-01-15t10:11:12z", millis(2026, 1, 15, 10, 11, 12)),
    ],
)
def test_reads_rfc_3339_times(text: str, expected: int) -> None:
    assert good(body(one(startsAt=text))).starts_at == expected


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "",
        "2026-01-15",
        "2026-01-15T10:11:12",
        "20260115T101112Z",
        "2026-13-15T10:11:12Z",
        "\u0661",
    ],
)
def test_other_times_are_refused_by_name(text: str) -> None:
    field, message = fault(one(startsAt=text))
    assert field == "alerts[0].startsAt"
    assert message


def test_an_unset_start_is_refused() -> None:
    field, message = fault(one(startsAt="0001-01-01T00:00:00Z"))
    assert field == "alerts[0].startsAt"
    assert "not set" in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": {"a": 1}}, "alerts[1].labels[...]"),
        ({"labels": None}, "alerts[1].labels"),
        ({"labels": [["a", "b"]]}, "alerts[1].labels"),
        ({"status": "pending"}, "alerts[1].status"),
        ({"status": None}, "alerts[1].status"),
        ({"fingerprint": ""}, "alerts[1].fingerprint"),
        ({"fingerprint": "x" * 257}, "alerts[1].fingerprint"),
        ({"fingerprint": 12}, "alerts[1].fingerprint"),
        ({"labels": {"a": "x\0y"}}, "alerts[1].labels.a"),
        ({"labels": {"a\0": "x"}}, "alerts[1].labels (a name)"),
        ({"labels": {"a": "x" * (MAX_LABEL + 1)}}, "alerts[1].labels.a"),
        ({"labels": {f"l{n}": "x" for n in range(MAX_LABELS + 1)}}, "alerts[1].labels"),
        ({"annotations": {"a": "x" * 65_537}}, "alerts[1].annotations.a"),
        ({"annotations": {"a": "\0"}}, "alerts[1].annotations.a"),
        ({"generatorURL": "x" * 8_193}, "alerts[1].generatorURL"),
        ({"endsAt": "soon", "status": "resolved"}, "alerts[1].endsAt"),
    ],
)
def test_a_bad_alert_is_handed_back_and_spoils_no_other(change: dict[str, Any], field: str) -> None:
    bad_one = one(**change)
    parsed = receiver().parse("am", body(one(fingerprint="a"), bad_one, one(fingerprint="c")), NOW)
    assert [alert.fingerprint for alert, _ in parsed.alerts] == ["a", "c"]
    (bad,) = parsed.bad
    assert bad.field == field
    assert json.loads(bad.body) == bad_one


@pytest.mark.parametrize("thing", [3, "x", None, [], [[]]])
def test_things_that_are_no_alert_are_handed_back(thing: Any) -> None:
    parsed = receiver().parse("am", body(one(), thing), NOW)
    assert len(parsed.alerts) == 1
    assert parsed.bad[0].field == "alerts[1]"


@pytest.mark.parametrize("field", ["status", "labels", "startsAt", "fingerprint"])
def test_a_missing_field_is_named(field: str) -> None:
    alert = one()
    del alert[field]
    assert field in fault(alert)[1]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", ""),
        (b"not json", ""),
        (b"null", ""),
        (b"[]", ""),
        (b'"\xff"', ""),
        (b'{"version":"4","alerts":[', ""),
        (b'{"version":"3","alerts":[]}', "version"),
        (b'{"version":4,"alerts":[]}', "version"),
        (b'{"alerts":[]}', ""),
        (b'{"version":"4"}', ""),
        (b'{"version":"4","alerts":{}}', "alerts"),
        (b'{"version":"4","alerts":[],"truncatedAlerts":1e999}', "truncatedAlerts"),
        (b'{"version":"4","alerts":' + b"[" * 100_000, ""),
        (b'{"version":"4","other":' + b'{"a":' * 100_000, ""),
        (b'{"version":"4","alerts":[{"labels":{"a":NaN}}]}', ""),
    ],
)
def test_an_envelope_that_cannot_be_read_is_a_payload_error(raw: bytes, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        receiver().parse("am", raw, NOW)
    assert caught.value.field == field


def test_a_custom_payload_is_told_from_the_standard_one() -> None:
    with pytest.raises(PayloadError, match='version "4"'):
        receiver().parse("am", b'{"text": "made by a template"}', NOW)


def test_deep_nesting_inside_one_alert_is_harmless() -> None:
    deep = b'{"x":' + b"[" * 900 + b"]" * 900 + b"," + json.dumps(one()).encode()[1:]
    parsed = receiver().parse("am", b'{"version":"4","alerts":[' + deep + b"]}", NOW)
    assert len(parsed.alerts) + len(parsed.bad) == 1


def test_of_duplicate_keys_one_wins_and_nothing_breaks() -> None:
    raw = b'{"labels":{"a":"1","a":"2"},"status":"firing","status":"resolved",' + (
        b'"startsAt":"2026-01-15T10:11:12Z","fingerprint":"x"}'
    )
    alert = good(b'{"version":"4","alerts":[' + raw + b"]}")
    assert alert.labels["a"] == "2"
    assert alert.status is Status.RESOLVED


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("critical", "P1"),
        ("CRITICAL", "P1"),
        ("p2", "P2"),
        ("error", "P2"),
        ("warning", "P3"),
        ("info", "P4"),
        ("whatever", "P3"),
    ],
)
def test_severity_words_become_levels_and_the_word_is_kept(word: str, level: str) -> None:
    labels = good(body(one(labels={"alertname": "X", "severity": word}))).labels
    assert labels["severity"] == level
    assert labels["sender_severity"] == word


def test_severities_can_be_set_per_sender() -> None:
    raw = body(one(labels={"alertname": "X", "severity": "Sev-0"}))
    assert good(raw, severities={"SEV-0": "P1"}).labels["severity"] == "P1"
    raw = body(one(labels={"alertname": "X"}))
    assert good(raw, default_severity="P4").labels["severity"] == "P4"


def test_a_level_stays_as_it_is() -> None:
    labels = {"alertname": "X", "severity": "P2"}
    assert good(body(one(labels=labels))).labels == labels


def test_an_alert_without_a_name_gets_one() -> None:
    assert good(body(one(labels={"instance": "a"}))).labels["alertname"] == "unnamed"


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0.9", "", 0.9),
        (" 83.5% ", "%", 0.835),
        ("83.5", "%", 0.835),
        ("2Gi", "Gi", 2147483648.0),
        ("250", "ms", 0.25),
        ("-1e3", "", -1000.0),
        ("NaN", "", None),
        ("+Inf", "", None),
        ("1e999", "", None),
        ("many", "", None),
        ("1_000", "", None),
        ("", "", None),
    ],
)
def test_the_value_comes_from_the_annotation_that_settings_name(
    text: str, unit: str, expected: float | None
) -> None:
    raw = body(one(annotations={"value": text}))
    assert good(raw, value=Value(annotation="value", unit=unit)).value == expected


def test_the_value_may_come_from_a_label_and_is_else_unknown() -> None:
    raw = body(one(labels={"alertname": "X", "v": "5"}))
    assert good(raw, value=Value(label="v")).value == 5.0
    assert good(raw, value=Value(annotation="absent")).value is None
    assert good(raw).value is None


def test_a_repeat_has_the_same_digest_and_a_change_another() -> None:
    def digest(raw: bytes) -> int:
        return receiver().parse("am", raw, NOW).alerts[0][1]

    first = digest(body(one()))
    assert digest(body(one(), status="firing", groupKey="other peer")) == first
    assert digest(body(one(status="resolved"))) != first
    assert digest(body(one(annotations={"summary": "fuller"}))) != first


def test_one_stored_alert_can_be_read_again() -> None:
    raw = body(one(fingerprint="a"), one(status="bad"), one(fingerprint="c"))
    am = receiver()
    parsed = am.parse("am", raw, NOW)
    for position, (alert, _) in enumerate(parsed.alerts):
        assert am.alert("am", raw, position, NOW) == alert
    with pytest.raises(PayloadError):
        am.alert("am", raw, 2, NOW)


def test_a_stored_body_outlives_its_senders_settings() -> None:
    assert Alertmanager({}).alert("gone", body(one()), 0, NOW).sender == "gone"


@given(st.binary(max_size=300))
def test_no_bytes_break_it(raw: bytes) -> None:
    with contextlib.suppress(PayloadError):
        assert receiver().parse("am", raw, NOW).alerts == ()


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"]
        ),
        _json,
        max_size=3,
    )
)
def test_each_alert_is_either_good_or_handed_back(changes: dict[str, Any]) -> None:
    parsed = receiver().parse("am", body(one(**changes)), NOW)
    assert len(parsed.alerts) + len(parsed.bad) == 1
    for alert, _ in parsed.alerts:
        assert alert.labels["alertname"]
        assert alert.labels["severity"] in ("P1", "P2", "P3", "P4")
        assert alert.starts_at > 0


def test_ten_thousand_alerts_take_well_under_a_second_of_cpu() -> None:
    """The budget is 8 µs an alert; this fails at 50, so that a busy machine does not matter."""
    raw = body(*(one(fingerprint=f"{n:x}", labels={"alertname": "X", "n": str(n)}) for n in range(10)))
    am = receiver()
    before = time.process_time()
    for _ in range(1_000):
        am.parse("am", raw, NOW)
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize("size", [3, 250])
def test_alerts_are_read_back_in_any_order_and_between_other_bodies(size: int) -> None:
    am = receiver()
    alerts = [one(fingerprint=f"f{number}") for number in range(size)]
    raw, other = body({"status": "firing"}, *alerts), body(*reversed(alerts))
    for position in (size - 1, 0, 1, 1):
        assert am.alert("am", raw, position, NOW).fingerprint == f"f{position}"
        assert am.alert("am", other, position, NOW).fingerprint == f"f{size - 1 - position}"
    with pytest.raises(PayloadError):
        am.alert("am", raw, size, NOW)
