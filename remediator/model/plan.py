"""What an action is going to change, on which target, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from remediator.model.value import Struct


class Risk(StrEnum):
    READ = "read"
    REVERSIBLE = "reversible"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"


class Target(Struct, frozen=True, kw_only=True):
    """What an action changes. `key` is the provider's own identity (locks and budgets use it);
    `name` is what people read, e.g. `postgres:orders`."""

    name: str
    key: str


class Blast(Struct, frozen=True, kw_only=True):
    """How much of the target a plan touches: `amount` of `whole` (None where unknown) in `unit`."""

    amount: float
    whole: float | None
    unit: str


class Plan(Struct, frozen=True, kw_only=True):
    """Exactly what will be done. Pure data; stored with the intent and shown to approvers.

    before, after: the declared fields, from and to.
    version: the provider's etag or resourceVersion at observation, None where there is none.
    params: the validated parameters, to observe the same thing again.
    more: another step or chunk follows after this one has settled.
    detail: what `apply` needs beyond before and after (pids with their backend_start, …).
    """

    action: str
    target: Target
    before: dict[str, Any]
    after: dict[str, Any]
    blast: Blast
    params: dict[str, Any]
    version: str | None = None
    more: bool = False
    detail: dict[str, Any] = {}
    note: str = ""


def flat(values: Mapping[str, Any]) -> str:
    """A mapping for people: `desired=3 max=10`."""
    return " ".join(f"{key}={value}" for key, value in values.items())
