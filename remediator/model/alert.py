"""Alerts, and the episodes they are of."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from remediator.model.time import Instant
from remediator.model.value import AlertId, Struct

MANUAL = "manual"
"""The sender of runs that a person starts."""


class Status(StrEnum):
    """What a sender says of an alert. `closed` means that the data stopped: it is not recovery."""

    FIRING = "firing"
    RESOLVED = "resolved"
    CLOSED = "closed"


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
