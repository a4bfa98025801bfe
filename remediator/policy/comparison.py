"""What a check's value must be: `"> 5%"`, `"< 500ms"`, `">= 2Gi"`.

A number without a unit is in the check's own unit. With a unit, it is converted, or refused
where the two do not measure the same thing.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from remediator.errors import Permanent
from remediator.units import UNITS

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_SYNTAX = re.compile(
    r"\s*(>=|<=|==|!=|>|<)\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*([%A-Za-z]*)\s*"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparator with a number.

    Args:
        op: one of `> >= < <= == !=`.
        value: the number as written.
        unit: the unit as written, "" for the check's own.
    """

    op: str
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.op} {self.value:.15g}{self.unit}"

    def fault(self, unit_of_check: str) -> str:
        """Why this cannot be compared with a check of that unit; "" where it can."""
        if not self.unit or self.unit == unit_of_check:
            return ""
        mine, theirs = UNITS[self.unit][0], UNITS.get(unit_of_check, ("", None))[0]
        if mine == theirs:
            return ""
        seen = f"the check's unit is {unit_of_check!r}" if unit_of_check else "the check gives a plain number"
        return f"{self.unit!r} measures {mine} and {seen}; write the number in the check's unit"

    def holds(self, value: float, unit_of_check: str) -> bool:
        """Whether a measured value fulfils it. NaN fulfils nothing, not even `!=`.

        Args:
            value: what the check measured.
            unit_of_check: the unit it was measured in.

        Raises:
            Permanent: the units do not measure the same thing, so this is no answer.
        """
        if reason := self.fault(unit_of_check):
            raise Permanent(f"cannot compare with {str(self)!r}: {reason}")
        if math.isnan(value):
            return False
        return _OPERATORS[self.op](value, self._threshold(unit_of_check))

    def _threshold(self, unit_of_check: str) -> float:
        if not self.unit or self.unit == unit_of_check:
            return self.value
        # decimal arithmetic, so that 7% is exactly the 0.07 that a source would report
        written = Decimal(repr(self.value)) * UNITS[self.unit][1]
        return float(written / UNITS[unit_of_check][1])


def parse(text: str) -> Comparison:
    """Read a comparison.

    Raises:
        ValueError: not a comparator with a finite number and a known unit.
    """
    found = _SYNTAX.fullmatch(text) if len(text) <= 60 else None
    if found is None:
        raise ValueError(
            f"{text[:60]!r} is not a comparison; write a comparator (> >= < <= == !=) and a number "
            'with an optional unit, in quotes: "> 5%"'
        )
    op, number, unit = found.groups()
    if unit not in UNITS:
        known = " ".join(name for name in UNITS if name)
        raise ValueError(f"{unit!r} is not a unit; known units are {known}")
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number!r} is not a finite number")
    return Comparison(op, value, unit)
