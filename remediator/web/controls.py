"""/api/v1/control, /targets: brakes and locks."""

from __future__ import annotations

import asyncio
from typing import Annotated, cast

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.engine.scope import check_policy, check_target, possible
from remediator.errors import StoreError
from remediator.model import Control, ControlKind, Instant
from remediator.web.access import Daemon, Operator, Viewer
from remediator.web.parameters import EXPIRES, NEVER, SCOPE, Body, Reason, duration
from remediator.web.problem import Problem
from remediator.web.served import Served

router = APIRouter()

Scope = Annotated[
    str,
    Field(
        max_length=1_000,
        pattern=SCOPE,
        description="What it is about: empty for the whole daemon, policy:NAME or target:KEY.",
    ),
]
LOOK = 2.0
"""Seconds for which an answer may wait for what it warns of."""


class Pause(Body):
    """A brake to put on."""

    scope: Scope = ""
    reason: Reason
    expires: Annotated[
        str,
        Field(
            pattern=EXPIRES,
            description="After this it ends by itself: 30m, 4h, 2d; or never.",
        ),
    ] = "4h"


class Resume(Body):
    """A brake to take off."""

    scope: Scope = ""
    reason: Reason


class Paused(shapes.ControlShape):
    """The pause that stands. `warning` says what is odd about what was asked for, or is empty."""

    warning: str


class Resumed(TypedDict):
    resumed: bool


class Controls(TypedDict):
    items: list[shapes.ControlShape]


class Clear(Body):
    target: Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[^\x00]*$")]
    """Its key or its name, as GET /targets lists it."""
    reason: Reason


class Cleared(TypedDict):
    cleared: bool


class Targets(TypedDict):
    items: list[shapes.TargetShape]


@router.get("/control", tags=["control"])
async def list_controls(daemon: Daemon, caller: Viewer) -> Controls:
    """The brakes that are on now."""
    return {"items": [shapes.control(control) for control in await daemon.store.controls()]}


@router.post("/control/pause", tags=["control"])
async def pause(daemon: Daemon, caller: Operator, body: Pause) -> Paused:
    """Stop new actions. What already acts is finished and verified; 404 if no policy is named so, or no
    target could be."""
    await _known(daemon, body.scope)
    until: Instant | None = None
    if body.expires != NEVER:
        span = duration(body.expires, "expires")
        if not 0 < span <= 366 * 86_400_000:
            raise Problem(
                422, f"expires is {body.expires}; more than 0 and at most 366d is allowed, or never"
            )
        until = Instant(await daemon.store.now() + span)
    stands = await daemon.pause(body.scope, body.reason, caller.name, until)
    return {**shapes.control(stands), "warning": await _odd(daemon, body.scope)}


@router.post("/control/resume", tags=["control"])
async def resume(daemon: Daemon, caller: Operator, body: Resume) -> Resumed:
    """Lift a pause; `resumed` is false if there was none."""
    return {"resumed": await daemon.resume(body.scope, body.reason, caller.name)}


@router.get("/targets", tags=["targets"])
async def list_targets(daemon: Daemon, caller: Viewer) -> Targets:
    """Targets that a run holds or a brake holds back."""
    return {"items": shapes.targets(await daemon.store.locks(), await daemon.store.controls())}


@router.post("/targets/clear", tags=["targets"])
async def clear_target(daemon: Daemon, caller: Operator, body: Clear) -> Cleared:
    """Lift a target's quarantine, once a person knows its state; its lock is free again."""
    if await daemon.clear_target(body.target, body.reason, caller.name):
        return {"cleared": True}
    held = [one.scope.removeprefix("target:") for one in await _quarantines(daemon)]
    raise Problem(404, f"{body.target!r} is not quarantined; quarantined are: {', '.join(held) or 'none'}")


async def _quarantines(daemon: Served) -> list[Control]:
    return [one for one in await daemon.store.controls() if one.kind is ControlKind.QUARANTINE]


async def _known(daemon: Served, scope: str) -> None:
    """Refuse what would stop nothing while somebody relies on it. For all else a pause waits for no look at
    what runs have met.

    Raises:
        NotFound: no policy is named so, or no target could be.
    """
    kind, _, name = scope.partition(":")
    current = daemon.policies.current
    if kind == "policy" and current is not None:
        check_policy(name, cast(dict[str, object], current.policies))
    if kind == "target" and not possible(name, daemon.catalogue):
        check_target(name, await daemon.store.targets(), daemon.catalogue)


async def _odd(daemon: Served, scope: str) -> str:
    """What to warn of, once the pause holds; "" also where that cannot be said soon."""
    kind, _, name = scope.partition(":")
    if kind != "target":
        return ""
    try:
        async with asyncio.timeout(LOOK):
            return check_target(name, await daemon.store.targets(), daemon.catalogue)
    except (StoreError, TimeoutError):
        return ""
