"""Leases on effects."""

from __future__ import annotations

from typing import Any

from remediator.model.plan import Plan, Target
from remediator.model.time import Instant
from remediator.model.value import RunId, Struct

LEFT_TO_PERSON = "left to a person"
"""What became of a lease that nobody returns by itself any more; a person still may."""


class Effect(Struct, frozen=True, kw_only=True):
    """A lease: the prior value of one field of one target, and when it goes back.

    lent_at: None where a former version wrote the row.
    return_run: the run that puts it back, once there is one. recalled_by: who wanted it back early.
    """

    id: int
    run: RunId
    policy: str
    target: Target
    field: str
    prior: Any
    current: Any
    plan: Plan
    expires_at: Instant
    extended: bool = False
    returned_at: Instant | None = None
    outcome: str = ""
    lent_at: Instant | None = None
    return_run: RunId | None = None
    renewed_at: Instant | None = None
    renewed_by: str = ""
    renewals: int = 0
    recalled_by: str = ""
