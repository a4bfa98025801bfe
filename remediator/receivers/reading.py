"""What all receivers do alike: times, numbers, severities, and bounds on hostile input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import msgspec

from remediator.model import Instant
from remediator.settings import Sender
from remediator.units import UNITS

MAX_LABELS = 128
MAX_LABEL = 4_096
"""Characters in a label's name or value."""
MAX_ANNOTATION = 65_536
MAX_FINGERPRINT = 256
MAX_URL = 8_192
UNNAMED = "unnamed"
"""The alertname of an alert that has none; Alertmanager allows that."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class BadField(ValueError):
    """A field of one alert that cannot be taken.

    Args:
        field: its path inside the alert, such as `labels.instance`.
        message: what was seen and what is allowed.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@lru_cache(maxsize=4_096)
def instant(text: str) -> Instant:
    """An RFC 3339 time, fractions and offsets included; the zero time 0001-01-01 is negative.

    Cached, since the alerts of one group tend to start together.

    Raises:
        ValueError: it is not one.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time such as 2026-01-15T10:11:12.345Z")
    return Instant((datetime.fromisoformat(text.upper()) - _EPOCH) // _MILLISECOND)


def number(text: str, unit: str = "") -> float | None:
    """The number a text holds, its declared unit behind it or not, in the base unit of what it
    measures (a ratio, seconds, bytes): `12%` is 0.12. None for anything else.

    NaN and infinities are no numbers here: no data is never a value.
    """
    text = text.strip()
    if unit:
        text = text.removesuffix(unit).rstrip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if abs(value) == float("inf"):
        return None
    return float(Decimal(text) * UNITS[unit][1]) if unit else value


class Severities:
    """A sender's severity words, ready for look-up."""

    def __init__(self, sender: Sender) -> None:
        self._words = {word: severity.value for word, severity in sender.severities.items()}
        self._default = sender.default_severity.value

    def put(self, labels: dict[str, str]) -> None:
        """Make `severity` one of P1 … P4; the sender's own word stays as `sender_severity`."""
        word = labels.get("severity")
        if word is None:
            labels["severity"] = self._default
            return
        level = self._words.get(word)
        if level is None:
            level = self._words.get(word.strip().lower(), self._default)
        if level != word:
            labels["sender_severity"] = word
            labels["severity"] = level


def bound_labels(labels: Mapping[str, str], field: str = "labels") -> None:
    """Raise BadField if the labels are too many, too long, or hold what the store cannot."""
    if len(labels) > MAX_LABELS:
        raise BadField(field, f"{len(labels)} labels; at most {MAX_LABELS} are allowed")
    for name, value in labels.items():
        bound_text(f"{field} (a name)", name, MAX_LABEL)
        bound_text(f"{field}.{name[:100]}", value, MAX_LABEL)


def bound_annotations(annotations: Mapping[str, str]) -> None:
    """As `bound_labels`, for annotations, which may be longer."""
    if len(annotations) > MAX_LABELS:
        raise BadField("annotations", f"{len(annotations)} annotations; at most {MAX_LABELS} are allowed")
    for name, value in annotations.items():
        bound_text("annotations (a name)", name, MAX_LABEL)
        bound_text(f"annotations.{name[:100]}", value, MAX_ANNOTATION)


def bound_text(field: str, text: str, most: int) -> None:
    """Raise BadField if a text is too long or holds a NUL, which PostgreSQL cannot store."""
    if len(text) > most:
        raise BadField(field, f"{len(text)} characters; at most {most} are allowed")
    if "\0" in text:
        raise BadField(field, "holds a NUL character, which is not allowed")


def explain(error: Exception) -> tuple[str, str]:
    """(path of the field, message) of what the decoder refused.

    The path is msgspec's (`$.labels[...]`), without its root.
    """
    if isinstance(error, BadField):
        return error.field, str(error)
    if isinstance(error, RecursionError):
        return "", "nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        message, _, path = str(error).partition(" - at `")
        return path.rstrip("`").removeprefix("$").removeprefix("."), message
    return "", str(error)


UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding hostile bytes may raise (ValidationError is a DecodeError)."""
