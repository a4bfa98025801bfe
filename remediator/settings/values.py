"""The kinds of value that settings are made of: durations, addresses, and the base of a section."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from remediator.duration import parse
from remediator.model import DAY, SECOND, Budget, Millis

LONGEST = Millis(36_500 * DAY)
"""A century: audit logs are kept for years."""
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB)?")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_RATE = re.compile(r"([0-9]{1,9})\s+per\s+(\S+)")
_PASSWORD = re.compile(r"(?<=://)([^/@?#:\s]*):(\S{0,1000})(?=@)")
"""Up to the last @: a password that was not percent-encoded may hold a slash or an @ of its own."""
_PASSWORD_WORD = re.compile(r"(?i)((?:password|passwd|secret|token|sslpassword)=)[^&\s]+")


def parse_duration(value: Any) -> Millis:
    """`30s`, `5m`, `1h30m`, `90d` → milliseconds.

    A bare number is refused, because nobody can tell its unit (0 alone is clear).

    Raises:
        ValueError: anything else.
    """
    if value == 0 and not isinstance(value, bool):
        return Millis(0)
    if not isinstance(value, str):
        raise ValueError("is not a duration; write numbers with units, such as 500ms, 30s, 5m, 90d or 1h30m")
    return parse(value, LONGEST)


def _rate(value: Any) -> Any:
    if isinstance(value, Budget):
        return value
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a rate; write for example 600 per 1m")
    count, window = int(found[1]), parse_duration(found[2])
    if count < 1 or not SECOND <= window <= DAY:
        raise ValueError("must allow at least 1, per 1s to 1d; write for example 600 per 1m")
    return Budget(count=count, window=window)


def _seconds(value: Any) -> Any:
    return parse_duration(value) / SECOND if isinstance(value, str) and value[-1:].isalpha() else value


def _line(value: str) -> str:
    odd = next((one for one in value if not one.isprintable()), None)
    if odd is not None:
        raise ValueError(f"holds {odd!a}; allowed is one line of printable text")
    return value


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if not found:
        raise ValueError("not a size; write bytes, or a number with KiB, MiB or GiB")
    return int(found[1]) * _SIZES[found[2] or "B"]


Duration = Annotated[Millis, BeforeValidator(parse_duration)]
"""Written `30s`, `5m`, `1h30m`; held as integer milliseconds."""
Rate = Annotated[Budget, PlainValidator(_rate, json_schema_input_type=str), PlainSerializer(str)]
"""Written `600 per 1m`: at most so many in any window of that length."""
Seconds = Annotated[float, BeforeValidator(_seconds)]
"""Written `5s` or `5.0`; held as seconds, as client libraries take them."""
Line = Annotated[str, AfterValidator(_line)]
"""One line for people: what cannot be printed, such as NUL, can neither be stored nor shown."""
Size = Annotated[int, BeforeValidator(_size)]
"""Written `10MiB` or in bytes; held as bytes."""


LEAST = 16
"""Characters of what callers prove themselves with: about what nobody can guess, even over years."""
Credential = Annotated[SecretStr, Field(min_length=LEAST)]
"""What callers of this daemon prove themselves with. How long its own credentials elsewhere are is theirs
to judge."""


class Address(str):
    """A URL or DSN that may carry a password: `repr` and `shown` hide it, `str` does not.

    Show `shown` to people, give the value itself to clients.
    """

    __slots__ = ()

    @property
    def shown(self) -> str:
        return _PASSWORD_WORD.sub(r"\1***", _PASSWORD.sub(r"\1:***", self))

    def __repr__(self) -> str:
        return repr(self.shown)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))


def shown(text: str) -> str:
    """A value of which nobody knows whether it is an address, and which may be one that is written wrongly:
    what stands before its last @ is hidden where no password was recognised and there may be one."""
    hidden = Address(text).shown
    before, at, after = text.rpartition("@")
    if hidden == text and ":" in before[before.find("://") + 3 if "://" in before else 0 :]:
        return f"***{at}{after}"
    return hidden


def refuse_unquoted(url: str) -> None:
    """Raise ValueError for a password that is read as something else: drivers then look up a part of it as
    the host's name, and say so."""
    place = url.partition("://")[2].partition("?")[0]
    before, at, _ = place.rpartition("@")
    if at and any(sign in before for sign in "@/#"):
        raise ValueError("write signs in the user or password as %40 for @, %2F for /, %23 for #")


def suggest(word: str, allowed: list[str]) -> str:
    """`did you mean …?` where something is near, then all that is allowed."""
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(sorted(allowed))}"


class Section(BaseModel):
    """Base of every section: frozen, and an unknown key is refused with a suggestion."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        # By its alias too, for an environment variable cannot hold every sign that a key may.
        aliases = [field.alias for field in cls.model_fields.values() if field.alias]
        refuse_unknown(data, [*cls.model_fields, *aliases])
        return data


def refuse_unknown(data: Any, allowed: list[str]) -> None:
    """Raise for the first key of a mapping that is not a field."""
    if not isinstance(data, dict):
        return
    for key in data:
        if key not in allowed:
            raise PydanticCustomError(
                "unknown_key", "unknown key; {hint}", {"key": str(key), "hint": suggest(str(key), allowed)}
            )
