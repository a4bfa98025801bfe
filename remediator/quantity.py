"""Amounts in the parameters of actions and checks: written with a unit, bounded by the type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from remediator.duration import parse
from remediator.model import Millis, span

_PATTERN = r"([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?"
"""For editors; `duration.parse` decides."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Makes an `int` parameter a duration: text in policies and in plans, milliseconds in code.

        longer_than: Annotated[Millis, Duration(SECOND, DAY)]

    A default is given in milliseconds; `Field(json_schema_extra={"default": "3s"})`
    shows it as text to editors.

    Args:
        at_least, at_most: the hard bounds in milliseconds, both allowed.
    """

    at_least: Millis
    at_most: Millis

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most:
            raise ValueError(f"a duration cannot be between {self.at_least} and {self.at_most} ms")

    def parse(self, value: object) -> Millis:
        """Read one duration and hold it against the bounds."""
        if not isinstance(value, str):
            raise ValueError(f"{value!r} has no unit; write a duration like 30s, 5m or 2h")
        found = parse(value)
        if not self.at_least <= found <= self.at_most:
            raise ValueError(f"{value} is outside {span(self.at_least)} to {span(self.at_most)}")
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                span, return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^{_PATTERN}$",
            "description": f"a duration from {span(self.at_least)} to {span(self.at_most)}",
        }
