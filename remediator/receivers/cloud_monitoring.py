"""Google Cloud Monitoring's webhook, schema 1.2.

Source: https://cloud.google.com/monitoring/support/notification-options#schema-pubsub
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from remediator.contracts import Bad, Parsed
from remediator.errors import PayloadError
from remediator.model import Alert, Instant, Status
from remediator.receivers.reading import (
    MAX_FINGERPRINT,
    MAX_URL,
    UNNAMED,
    UNREADABLE,
    BadField,
    Severities,
    bound_annotations,
    bound_labels,
    bound_text,
    explain,
    number,
)
from remediator.settings import Sender

_VERSION = re.compile(r"1\.([2-9]|[1-9][0-9])")
_STATES = {"open": Status.FIRING, "closed": Status.CLOSED}
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z."""
_NO_METRIC = "__missing__"
"""The metric type of policies written in PromQL; the value is then among the metric's labels."""

_decode = msgspec.json.Decoder().decode


class CloudMonitoring:
    """Reads Cloud Monitoring's bodies: one incident each.

    Args:
        senders: settings of the senders, by name; of an unknown one the defaults hold.
    """

    kind = "cloud_monitoring"

    def __init__(self, senders: Mapping[str, Sender]) -> None:
        self._senders = dict(senders)

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        """See contracts.Receiver. An incident that closed is CLOSED, not RESOLVED: `autoClose` also
        closes one when its data stops, and that is no recovery."""
        version, incident = _envelope(body)
        if version == "test":
            return Parsed(alerts=(), test=True)
        try:
            alert = self._read(sender, incident, now)
        except BadField as error:
            field = f"incident.{error.field}"
            return Parsed(alerts=(), bad=(Bad(field=field, message=str(error), body=body),))
        return Parsed(alerts=((alert, zlib.crc32(body)),))

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        """The alert of a body that `parse` took; `position` is 0."""
        try:
            return self._read(sender, _envelope(body)[1], now)
        except BadField as error:
            raise PayloadError(str(error), f"incident.{error.field}") from None

    def _read(self, sender: str, incident: dict[str, Any], now: Instant) -> Alert:
        settings = self._senders.get(sender) or Sender(kind="cloud_monitoring")
        state = _text(incident, "state").lower()
        if state not in _STATES:
            raise BadField("state", f"{state[:40]!r}; open or closed is allowed")
        labels = _labels(incident)
        Severities(settings).put(labels)
        bound_labels(labels)
        annotations = _annotations(incident)
        bound_annotations(annotations)
        url = _text(incident, "url", "")
        bound_text("url", url, MAX_URL)
        started = _seconds(incident, "started_at")
        if not started:
            raise BadField("started_at", "is 0 or missing; unix seconds are allowed")
        ended = _seconds(incident, "ended_at")
        status = _STATES[state]
        return Alert(
            sender=sender,
            fingerprint=_identity(incident),
            status=status,
            labels=labels,
            annotations=annotations,
            starts_at=started,  # as sent, even if in the future: it is the episode's identity
            ends_at=min(ended, now) if ended and status is Status.CLOSED else None,
            value=_value(incident, settings.value.unit),
            url=url,
        )


def _envelope(body: bytes) -> tuple[str, dict[str, Any]]:
    what = "not a Cloud Monitoring webhook body"
    try:
        data = _decode(body)
    except UNREADABLE as error:
        raise PayloadError(f"{what}: {explain(error)[1]}") from None
    if not isinstance(data, dict):
        raise PayloadError(f"{what}: an object with version and incident is expected")
    version = data.get("version")
    if not isinstance(version, str) or (version != "test" and not _VERSION.fullmatch(version)):
        seen = repr(version)[:40] if version is not None else "missing"
        raise PayloadError(f'{what}: version is {seen}; "1.2" is allowed', "version")
    incident = data.get("incident")
    if not isinstance(incident, dict):
        raise PayloadError(f"{what}: incident is missing or not an object", "incident")
    return version, incident


def _labels(incident: dict[str, Any]) -> dict[str, str]:
    """All labels in one, the stronger layer first; what loses is kept with its layer's name before it."""
    resource, metric = _object(incident, "resource"), _object(incident, "metric")
    metric_type = _scalar("metric.type", metric.get("type"))
    metric_labels = _strings("metric.labels", metric.get("labels"))
    if metric_type == _NO_METRIC:
        metric_type = None
        # The measured value, not a label: it is different in every notification.
        metric_labels.pop("value", None)
    metadata = _object(incident, "metadata")
    own = {
        "severity": incident.get("severity"),
        "condition_name": incident.get("condition_name"),
        "project_id": incident.get("scoping_project_id"),
        "resource_name": incident.get("resource_name"),
        "resource_type": resource.get("type"),
        "metric_type": metric_type,
    }
    layers = {
        "user": _strings("policy_user_labels", incident.get("policy_user_labels")),
        "metric": metric_labels,
        "resource": _strings("resource.labels", resource.get("labels")),
        "metadata": _strings("metadata.user_labels", metadata.get("user_labels")),
        "incident": {key: text for key, text in _strings("", own).items() if text},
    }
    labels = {"alertname": _text(incident, "policy_name", "") or UNNAMED}
    for layer, values in layers.items():
        for name, value in values.items():
            if name not in labels:
                labels[name] = value
            elif labels[name] != value:
                labels.setdefault(f"{layer}_{name}", value)
    return labels


def _annotations(incident: dict[str, Any]) -> dict[str, str]:
    found = {
        name: text
        for name in ("summary", "observed_value", "threshold_value")
        if (text := _scalar(name, incident.get(name)))
    }
    documentation = incident.get("documentation")
    if isinstance(documentation, dict):
        for name, key in (("content", "documentation"), ("subject", "subject")):
            if text := _scalar(f"documentation.{name}", documentation.get(name)):
                found[key] = text
    elif text := _scalar("documentation", documentation):
        found["documentation"] = text
    return found


def _value(incident: dict[str, Any], unit: str) -> float | None:
    metric = _object(incident, "metric")
    sent = incident.get("observed_value")
    if metric.get("type") == _NO_METRIC:
        sent = _object(metric, "labels", "metric.labels").get("value", sent)
    text = _scalar("observed_value", sent)
    return None if text is None else number(text, unit)


def _identity(incident: dict[str, Any]) -> str:
    identity = _text(incident, "incident_id")
    if not identity:
        raise BadField("incident_id", "is empty; it is the incident's identity")
    bound_text("incident_id", identity, MAX_FINGERPRINT)
    return identity


def _seconds(incident: dict[str, Any], field: str) -> Instant | None:
    """Unix seconds as a number or as text, in milliseconds; None for null, 0 and absence."""
    text = _scalar(field, incident.get(field))
    seconds = None if text is None else number(text)
    if text is not None and (seconds is None or not 0 <= seconds <= _LAST_SECOND):
        raise BadField(field, f"{text[:40]!r}; unix seconds are allowed")
    return Instant(int(seconds * 1000)) if seconds else None


def _text(incident: dict[str, Any], field: str, default: str | None = None) -> str:
    text = _scalar(field, incident.get(field))
    if text is None:
        if default is None:
            raise BadField(field, "is missing")
        return default
    return text


def _object(parent: dict[str, Any], key: str, field: str = "") -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadField(field or key, f"is {type(value).__name__}; an object is allowed")
    return value


def _strings(field: str, values: Any) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadField(field, f"is {type(values).__name__}; an object is allowed")
    found: dict[str, str] = {}
    for name, value in values.items():
        text = _scalar(f"{field}.{name[:100]}".lstrip("."), value)
        if text is not None:
            found[name] = text
    return found


def _scalar(field: str, value: Any) -> str | None:
    """Text and numbers as text (the sender mixes them); None for null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    raise BadField(field, f"is {type(value).__name__}; text or a number is allowed")
