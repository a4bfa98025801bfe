"""Brakes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from remediator.model.time import Instant
from remediator.model.value import Struct


class ControlKind(StrEnum):
    PAUSE = "pause"
    QUARANTINE = "quarantine"
    BREAKER = "breaker"
    STORM = "storm"


class Control(Struct, frozen=True, kw_only=True):
    """A brake that is on: kind and scope ("" for the daemon, `policy:NAME`, `target:KEY`)."""

    kind: ControlKind
    scope: str
    reason: str
    actor: str
    since: Instant
    until: Instant | None = None
    data: dict[str, Any] = {}
