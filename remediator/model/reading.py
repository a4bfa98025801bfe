"""What checks read."""

from __future__ import annotations

from remediator.model.time import Instant
from remediator.model.value import Struct


class Sample(Struct, frozen=True, kw_only=True):
    """One measured value and when it was measured."""

    at: Instant
    value: float


class Reading(Struct, frozen=True, kw_only=True):
    """What a check returned: samples with their unit. Empty means no data, never zero."""

    samples: tuple[Sample, ...]
    unit: str = ""
    note: str = ""
