"""The kinds of parameter and body that the API takes, all bounded."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from remediator.model import Instant

_MOST = 2**63 - 1
_NO_NUL = r"^[^\x00]*$"

Id = Annotated[int, Path(ge=1, le=_MOST)]
IdFilter = Annotated[int | None, Query(ge=1, le=_MOST)]
Before = Annotated[int | None, Query(ge=1, le=_MOST, description="Only what is older than this id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
TextFilter = Annotated[str | None, Query(max_length=1_000, pattern=_NO_NUL)]
TimeFilter = Annotated[AwareDatetime | None, Query(description="RFC 3339, with a zone.")]
Reason = Annotated[
    str, Field(min_length=1, max_length=1_000, pattern=_NO_NUL, description="Why; it stays in the audit log.")
]
Text = Annotated[str, Field(min_length=1, max_length=1_000, pattern=_NO_NUL)]


class Body(BaseModel):
    """Base of request bodies: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def instant(moment: AwareDatetime | None) -> Instant | None:
    """Milliseconds since 1970."""
    return None if moment is None else Instant(int(moment.timestamp() * 1000))


def page(items: list[Any], limit: int, last: int | None) -> dict[str, Any]:
    """A page: `next` is the `before` of the following one, null on the last."""
    return {"items": items, "next": last if len(items) >= limit else None}
