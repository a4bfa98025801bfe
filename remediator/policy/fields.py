"""The kinds of values that stand in policy files, as pydantic field types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
)

from remediator import duration
from remediator.model import DAY, Blast, Budget, Millis, span
from remediator.policy import comparison, matcher
from remediator.policy.comparison import Comparison

T = TypeVar("T")

FROM_FILE: Final[Mapping[str, bool]] = {"file": True}
"""Validation context for what a person wrote: there a duration is text with a unit, never a bare number."""


class Frozen(BaseModel):
    """Base of all models of the language: frozen, unknown keys refused, no value in a message."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """The most of a target that one action may touch: a share of the whole, or an amount. Where two policies
    bound one action it may be both.

    Args:
        percent: of the whole, above 0 to 100.
        amount: in the action's own unit.
    """

    percent: float | None = None
    amount: float | None = None

    def __str__(self) -> str:
        share = [f"{self.percent:g}%"] if self.percent is not None else []
        return " and ".join([*share, *([f"{self.amount:g}"] if self.amount is not None else [])])

    def allows(self, blast: Blast) -> bool:
        """Whether a plan stays within. A share of an unknown whole is not known to."""
        if self.amount is not None and blast.amount > self.amount:
            return False
        if self.percent is None:
            return self.amount is not None
        return blast.whole is not None and blast.amount * 100 <= self.percent * blast.whole


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return duration.parse(value)
    if isinstance(value, bool) or not isinstance(value, int) or info.context is not None:
        raise ValueError(f"{_seen(value)} is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s")
    return value


def _positive(value: Millis) -> Millis:
    if value <= 0:
        raise ValueError("must be longer than 0s")
    return value


LOOK_BACK = Millis(31 * DAY)
"""The longest window of a budget and the longest cooldown: both are counted from what the store keeps of
actions, at least a day more than this (store.limits, keep_intents)."""


_BUDGET = re.compile(r"([0-9]{1,9})\s+per\s+(\S+)")


def _remembered(value: Millis) -> Millis:
    if value > LOOK_BACK:
        raise ValueError(
            f"{span(value)} is longer than actions are remembered; at most {span(LOOK_BACK)} is allowed"
        )
    return value


def budget(text: str) -> Budget:
    """Read `4 per 1h`.

    Raises:
        ValueError: it is not that.
    """
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a budget; write for example 4 per 1h")
    window = duration.parse(found[2])
    count = int(found[1])
    if count < 1 or window <= 0:
        raise ValueError(f"{text[:60]!r} allows nothing; to stop a policy use mode: observe")
    _remembered(window)
    return Budget(count=count, window=window)


_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")


def _blast_radius(value: object) -> BlastRadius:
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)) and 0 < float(found[1]) <= 100:
        return BlastRadius(percent=float(found[1]))
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]+)?", value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return BlastRadius(amount=float(value))
    raise ValueError(
        f"{_seen(value)} is not a blast radius; write a share like 30% (above 0 to 100), "
        "or a number above 0 in the action's unit"
    )


def _seen(value: object) -> str:
    return "nothing" if value is None else repr(value)[:60]


def _read(kind: type[T], parse: Callable[[str], T], example: str) -> Callable[[object], T]:
    def validate(value: object) -> T:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{_seen(value)} must be text; write for example {example}")
        return parse(value)

    return validate


_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "examples": ["30s", "5m", "2h"],
}
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Duration = Annotated[Millis, BeforeValidator(_duration), Field(json_schema_extra=_DURATION_SCHEMA)]
Positive = Annotated[Duration, AfterValidator(_positive)]
Remembered = Annotated[Duration, AfterValidator(_remembered)]
BudgetField = Annotated[
    Budget,
    PlainValidator(_read(Budget, budget, "4 per 1h"), json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]
ComparisonField = Annotated[
    Comparison,
    PlainValidator(_read(Comparison, comparison.parse, 'is: "> 50"'), json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]
BlastRadiusField = Annotated[
    BlastRadius,
    PlainValidator(
        lambda value: value if isinstance(value, BlastRadius) else _blast_radius(value),
        json_schema_input_type=str | float,
    ),
    PlainSerializer(str, return_type=str),
]
MatcherField = Annotated[str, Field(max_length=matcher.MAX_LENGTH)]
