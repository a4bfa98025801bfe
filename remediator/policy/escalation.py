"""`escalation.yaml`: who is told, and after how long without an answer."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator

from remediator.model import MINUTE, Millis, Severity, span
from remediator.policy.fields import Duration, Frozen

LOG = "log"
"""The notifier that is always there: the daemon's own log."""

_RANK = {severity: number for number, severity in enumerate(Severity, start=1)}
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_SYNTAX = re.compile(r"\s*severity\s*(<=|>=|==|!=|<|>)\s*(P[1-4])\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """`severity <= P2`: by number, so P1 and P2."""

    op: str
    severity: Severity

    def __str__(self) -> str:
        return f"severity {self.op} {self.severity}"

    def holds(self, severity: Severity) -> bool:
        return _OPERATORS[self.op](_RANK[severity], _RANK[self.severity])


def condition(value: object) -> Condition:
    """Read a step's `if:`.

    Raises:
        ValueError: it is not a condition on the severity.
    """
    if isinstance(value, Condition):
        return value
    found = _SYNTAX.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'{repr(value)[:60]} is not a condition; write for example "severity <= P1"')
    return Condition(found[1], Severity(found[2]))


ConditionField = Annotated[
    Condition,
    PlainValidator(condition, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]


class Step(Frozen):
    """Whom to tell when nobody has answered for `after`."""

    after: Duration
    notify: tuple[str, ...] = Field(min_length=1, description="Notifiers of the settings, or `log`.")
    if_: ConditionField | None = Field(default=None, alias="if", description='Only then: `"severity <= P1"`.')


def _deadline(value: Millis) -> Millis:
    if value < MINUTE:
        raise ValueError(
            f"is {span(value)}; nobody can acknowledge within less than 1m, so at least that is wanted"
        )
    return value


Deadline = Annotated[Duration, AfterValidator(_deadline)]


class Escalation(Frozen):
    """The chains, and how soon someone must acknowledge."""

    chains: dict[str, Annotated[tuple[Step, ...], Field(min_length=1)]] = Field(default_factory=dict)
    acknowledge_within: dict[Severity, Deadline] = Field(default_factory=dict)

    def deadline(self, severity: Severity) -> Millis | None:
        return self.acknowledge_within.get(severity)
