"""Reads a check's samples: does the condition hold? Pure. No data is never an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from remediator.model import Instant, Millis, Reading, Verdict, span
from remediator.policy.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a condition holds; None where it cannot be said. `observed` says what was seen."""

    holds: bool | None
    observed: str
    allowed: str

    @property
    def verdict(self) -> Verdict:
        if self.holds is None:
            return Verdict.UNKNOWN
        return Verdict.HEALED if self.holds else Verdict.NOT_HEALED


def judge(
    name: str, reading: Reading, unit: str, comparison: Comparison, max_age: Millis, now: Instant
) -> Judgement:
    """Compare the newest sample.

    Args:
        unit: the check's own, used where the reading names none.
        max_age: a sample older than this is stale, which is no data. One from the future by more
            than this is just as little to be trusted.
    """
    allowed = f"{name} {comparison}"
    note = f" ({reading.note})" if reading.note else ""
    finite = [sample for sample in reading.samples if math.isfinite(sample.value)]
    if not finite:
        seen = "NaN" if reading.samples else "no data"
        return Judgement(None, f"{name}: {seen}{note}", allowed)
    newest = max(finite, key=lambda sample: sample.at)
    age = now - newest.at
    if abs(age) > max_age:
        return Judgement(None, f"{name}: stale, {span(abs(age))} old{note}", allowed)
    measured = reading.unit or unit
    holds = comparison.holds(newest.value, measured)
    return Judgement(holds, f"{name} = {newest.value:g}{measured}", allowed)


def together(judgements: list[Judgement]) -> Judgement:
    """All must hold. One that is false decides; else one that cannot be said does."""
    for wanted in (False, None):
        for judgement in judgements:
            if judgement.holds is wanted:
                return judgement
    return Judgement(
        True,
        ", ".join(judgement.observed for judgement in judgements),
        ", ".join(judgement.allowed for judgement in judgements),
    )
