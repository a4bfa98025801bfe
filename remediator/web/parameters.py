"""The kinds of parameter and body that the API takes, all bounded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from remediator.model import Instant, Millis
from remediator.settings.values import parse_duration, suggest
from remediator.web.problem import Problem

_MOST = 2**63 - 1
_NO_NUL = r"^[^\x00]*$"
_SAYS = r"^[^\x00]*[^\x00\s][^\x00]*$"
"""Not only blanks: whoever must say why must say something."""

SCOPE = r"^(policy:[^\x00]+|target:[^\x00]+)?$"
NEVER = "never"
EXPIRES = rf"^({NEVER}|([0-9]{{1,9}}(ms|s|m|h|d)){{1,5}})$"

Id = Annotated[int, Path(ge=1, le=_MOST)]
IdFilter = Annotated[int | None, Query(ge=1, le=_MOST)]
Before = Annotated[int | None, Query(ge=1, le=_MOST, description="Only what is older than this id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
TextFilter = Annotated[str | None, Query(max_length=1_000, pattern=_NO_NUL)]
TimeFilter = Annotated[AwareDatetime | None, Query(description="RFC 3339, with a zone.")]
Reason = Annotated[
    str, Field(min_length=1, max_length=1_000, pattern=_SAYS, description="Why; it stays in the audit log.")
]
Text = Annotated[str, Field(min_length=1, max_length=1_000, pattern=_NO_NUL)]


_OTHER = ("daemon", "caller", "body")
"""Parameters of endpoints that do not come from the query."""


async def only_known(request: Request) -> None:
    """Refuse unknown query parameters: a filter with a typo would answer as if there were none."""
    given = inspect.signature(request.scope["endpoint"]).parameters
    known = [name for name in given if name not in _OTHER and name not in request.path_params]
    for name in request.query_params:
        if name not in known:
            hint = suggest(name[:100], known) if known else "none is allowed"
            what = f"unknown parameter {name[:100]!r}; {hint}"
            raise Problem(422, what, errors=[{"field": f"query.{name[:100]}", "message": what}])


class Body(BaseModel):
    """Base of request bodies: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def duration(text: str, name: str) -> Millis:
    """A duration that a body's pattern let through.

    Raises:
        Problem: (422) it is longer than any may be.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Problem(422, f"{name}: {error}") from None


def instant(moment: AwareDatetime | None) -> Instant | None:
    """Milliseconds since 1970."""
    return None if moment is None else Instant(int(moment.timestamp() * 1000))


_PATTERNS = {
    _SAYS: "say why; blanks alone are no reason",
    SCOPE: "write policy:NAME or target:KEY, or nothing at all for the whole daemon",
    EXPIRES: f"write how long, such as 30m or 4h, or {NEVER}",
}


def worded(error: Mapping[str, Any]) -> str:
    """What is wrong with a field of a request, for the person who wrote it; an expression is no answer."""
    kind, given = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch" and given.get("pattern") in _PATTERNS:
        return _PATTERNS[given["pattern"]]
    if kind == "string_too_short" and given.get("min_length") == 1:
        return "is empty"
    if kind == "extra_forbidden":
        return "unknown field"
    return str(error["msg"])
