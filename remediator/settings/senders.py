"""Senders: who may post to /webhooks/<name>, how they prove it, and how their alerts are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from remediator.model import Severity
from remediator.settings.values import Credential, Rate, Section
from remediator.units import UNITS

SEVERITIES: dict[str, Severity] = {
    **dict.fromkeys(("critical", "p1", "emergency", "fatal", "page"), Severity.P1),
    **dict.fromkeys(("error", "p2", "high", "major"), Severity.P2),
    **dict.fromkeys(("warning", "warn", "p3", "medium", "minor"), Severity.P3),
    **dict.fromkeys(("info", "informational", "p4", "low", "none"), Severity.P4),
}
"""Severity words of senders, in lower case, and what they mean here."""


class Login(Section):
    """HTTP basic credentials of a sender."""

    username: str = Field(min_length=1)
    password: Credential
    """At least 16 characters."""


class Auth(Section):
    """One accepted credential; exactly one of the three."""

    bearer: Credential | None = None
    """`Authorization: Bearer <token>`, at least 16 characters; `openssl rand -base64 32` makes one."""
    basic: Login | None = None
    """`Authorization: Basic …`."""
    query_token: Credential | None = None
    """`?auth_token=<token>`, at least 16 characters; only for senders that can send nothing better."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [key for key in ("bearer", "basic", "query_token") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nothing'} given; "
                "give exactly one of bearer, basic, query_token (several credentials are a list)"
            )
        return self


def _unit(unit: str) -> str:
    if unit not in UNITS:
        raise ValueError(f"is not a unit; known units are {' '.join(name for name in UNITS if name)}")
    return unit


class Value(Section):
    """Where `alert.value` comes from. Cloud Monitoring sends it; Alertmanager must be told."""

    annotation: str | None = None
    """The annotation that holds the number, e.g. `value: "{{ $value }}"` in the rule."""
    label: str | None = None
    """Or the label that does."""
    unit: Annotated[str, AfterValidator(_unit)] = ""
    """The unit the number is in, such as "%", "ms" or "Gi"; it is held in the base unit (a ratio, seconds,
    bytes), so `alert.value` is compared with `> 5%` or `> 0.05`, never with `> 5`."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | Auth) else value


def _words(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {**SEVERITIES, **{str(word).lower(): severity for word, severity in value.items()}}


class Sender(Section):
    """One sender of alerts. Peers of one highly available Alertmanager share one sender."""

    kind: Literal["alertmanager", "cloud_monitoring"]
    """Which receiver reads its bodies."""
    auth: Annotated[tuple[Auth, ...], BeforeValidator(_listed)] = ()
    """Accepted credentials; a list while one is rotated. None is allowed on loopback only."""
    value: Value = Value()
    """Where the number that the sender reports is found, and its unit."""
    limit: Rate | None = None
    """At most so many bodies in any such while, over all replicas: `600 per 1m`. What is beyond is answered
    503, after which senders try again; nothing that was accepted is lost. None: no limit."""
    severities: Annotated[dict[str, Severity], BeforeValidator(_words)] = SEVERITIES
    """More severity words (any case) to P1 … P4, beside the built-in ones."""
    default_severity: Severity = Severity.P3
    """For alerts without a severity, or with a word that is not known."""

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        named = [key for key in ("annotation", "label") if getattr(self.value, key)]
        if self.kind == "cloud_monitoring" and named:
            raise ValueError(f"value.{named[0]}: Cloud Monitoring sends the value; give only value.unit")
        if len(named) > 1:
            raise ValueError("value: give annotation or label, not both")
        return self
