"""Alertmanager's webhook, version "4".

Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
Alertmanager's notify/webhook and template packages.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from remediator.contracts import Bad, Parsed
from remediator.errors import PayloadError
from remediator.model import Alert, Instant, Status
from remediator.receivers.reading import (
    MAX_FINGERPRINT,
    MAX_LABEL,
    MAX_LABELS,
    MAX_URL,
    UNNAMED,
    UNREADABLE,
    BadField,
    Severities,
    bound_annotations,
    bound_labels,
    bound_text,
    explain,
    instant,
    number,
)
from remediator.settings import Sender

VERSION = "4"
MOST = 1_000_000_000
"""A larger number of alerts left out is this one: no column and no counter holds what can be sent."""
_NUL = b"\\u0000"
"""How a NUL arrives: JSON allows it escaped only."""
# Members of an enumeration cost twice a global to look up, and this is the hot path.
_FIRING, _RESOLVED = Status.FIRING, Status.RESOLVED


class _Alert(msgspec.Struct, gc=False):
    """One alert as sent; fields that we do not use are not decoded."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    startsAt: str  # noqa: N815 - the sender's name
    fingerprint: str
    annotations: dict[str, str] | None = None
    endsAt: str = ""  # noqa: N815
    generatorURL: str = ""  # noqa: N815


class _Body(msgspec.Struct, gc=False):
    version: str
    alerts: list[msgspec.Raw] | None
    truncatedAlerts: int = 0  # noqa: N815


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_alert = msgspec.json.Decoder(_Alert).decode


_KEPT = 100
"""Alerts of the body that is kept as it was read last."""


class Alertmanager:
    """Reads Alertmanager's bodies.

    The alerts are first split and then decoded one by one: their bytes give the digest, and a bad
    one spoils no other. This costs as much as decoding the body at once and digesting the result.

    Args:
        senders: settings of the senders, by name; of an unknown one the defaults hold.
    """

    kind = "alertmanager"

    def __init__(self, senders: Mapping[str, Sender]) -> None:
        self._readers = {name: _Reader(name, sender) for name, sender in senders.items()}
        self._last: tuple[tuple[str, bytes, Instant], Sequence[Alert]] | None = None

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        """See contracts.Receiver."""
        reader = self._reader(sender)
        envelope = _envelope(body)
        alerts: list[tuple[Alert, int]] = []
        bad: list[Bad] = []
        crc32, read, nul = zlib.crc32, reader.read, _NUL in body
        for position, raw in enumerate(envelope.alerts or ()):
            try:
                alerts.append((read(raw, now, nul), crc32(raw)))
            except (*UNREADABLE, BadField) as error:
                field, message = explain(error)
                path = f"alerts[{position}].{field}" if field else f"alerts[{position}]"
                bad.append(Bad(field=path, message=message, body=bytes(raw)))
        return Parsed(
            alerts=tuple(alerts), bad=tuple(bad), truncated=min(max(0, envelope.truncatedAlerts), MOST)
        )

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        """The alert at `position` of what `parse` gave for this body."""
        key, last = (sender, body, now), self._last
        if last is not None and last[0] == key:
            alerts = last[1]
        else:
            raws = _envelope(body).alerts or ()
            alerts = self._good(sender, raws, now, _NUL in body, position)
            if len(raws) <= _KEPT:  # what one body brought is asked for together
                self._last = key, alerts
        if position >= len(alerts):
            raise PayloadError("the stored body holds no alert at that position", "alerts")
        return alerts[position]

    def _good(
        self, sender: str, raws: Sequence[msgspec.Raw], now: Instant, nul: bool, position: int
    ) -> Sequence[Alert]:
        """The alerts that can be read: all of a small body, of a large one those up to a position."""
        reader = self._reader(sender)
        found: list[Alert] = []
        for raw in raws:
            with contextlib.suppress(*UNREADABLE, BadField):
                found.append(reader.read(raw, now, nul))
            if len(raws) > _KEPT and len(found) > position:
                break
        return found

    def _reader(self, sender: str) -> _Reader:
        found = self._readers.get(sender)
        if found is None:
            # A stored body may outlive its sender's settings.
            found = self._readers[sender] = _Reader(sender, Sender(kind="alertmanager"))
        return found


def _envelope(body: bytes) -> _Body:
    try:
        envelope = _decode_body(body)
    except UNREADABLE as error:
        field, message = explain(error)
        if field == "version" or "`version`" in message:
            message += f'; only the standard body of version "{VERSION}" is read, not a custom payload'
        raise PayloadError(f"not an Alertmanager webhook body: {message}", field) from None
    if envelope.version != VERSION:
        raise PayloadError(
            f'version is {envelope.version[:20]!r}; "{VERSION}" is allowed. '
            "Use Alertmanager's webhook_configs without a custom payload.",
            "version",
        )
    return envelope


class _Reader:
    """Makes our alert out of one of theirs, after one sender's settings."""

    __slots__ = ("_annotation", "_label", "_put_severity", "_sender", "_unit")

    def __init__(self, name: str, sender: Sender) -> None:
        self._sender = name
        self._put_severity = Severities(sender).put
        self._annotation = sender.value.annotation
        self._label = sender.value.label
        self._unit = sender.value.unit

    def read(self, raw: msgspec.Raw, now: Instant, nul: bool) -> Alert:
        """Raises BadField, or what the decoder raises. nul: the body may hold a NUL."""
        sent = _decode_alert(raw)
        labels = sent.labels
        annotations = sent.annotations or {}
        # An alert this short cannot hold a text that is too long.
        if nul or len(raw) > MAX_LABEL or len(labels) + len(annotations) > MAX_LABELS:
            _bound(sent)
        fingerprint = sent.fingerprint
        if not 0 < len(fingerprint) <= MAX_FINGERPRINT:
            raise BadField(
                "fingerprint", f"{len(fingerprint)} characters; 1 to {MAX_FINGERPRINT} are allowed"
            )
        try:
            starts_at = instant(sent.startsAt)
        except ValueError as error:
            raise BadField("startsAt", str(error)) from None
        if starts_at <= 0:
            raise BadField("startsAt", f"{sent.startsAt[:40]!r} is not set; a time after 1970 is allowed")
        firing = sent.status == "firing"
        self._put_severity(labels)
        if not labels.get("alertname"):
            labels["alertname"] = UNNAMED
        value: str | None = None
        if self._annotation:
            value = annotations.get(self._annotation)
        elif self._label:
            value = labels.get(self._label)
        return Alert(
            self._sender,
            fingerprint,
            _FIRING if firing else _RESOLVED,
            labels,
            annotations,
            starts_at,  # as sent, even if in the future: it is the episode's identity
            # While it fires, endsAt is 0001-01-01 or a guess.
            None if firing else _ended(sent.endsAt, now),
            None if value is None else number(value, self._unit),
            sent.generatorURL,
        )


def _bound(sent: _Alert) -> None:
    bound_labels(sent.labels)
    bound_annotations(sent.annotations or {})
    bound_text("fingerprint", sent.fingerprint, MAX_FINGERPRINT)
    bound_text("generatorURL", sent.generatorURL, MAX_URL)


def _ended(text: str, now: Instant) -> Instant | None:
    try:
        ended = instant(text) if text else Instant(0)
    except ValueError as error:
        raise BadField("endsAt", str(error)) from None
    return min(ended, now) if ended > 0 else None
