"""/api/v1/effects: leases, and what a person may do about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from remediator.engine import shapes
from remediator.web.access import Daemon, Operator, Viewer
from remediator.web.parameters import Body, Id, Reason, duration

router = APIRouter(prefix="/effects", tags=["effects"])


class Effects(TypedDict):
    items: list[shapes.EffectShape]


class Renewal(Body):
    """How much longer."""

    expires: Annotated[
        str,
        Field(
            pattern=r"^([0-9]{1,9}(ms|s|m|h|d)){1,5}$",
            description="It ends so long from now: 30m, 2h. At most as long as its policy lends for, "
            "and 7 days after it was lent.",
        ),
    ]
    reason: Reason


class Recall(Body):
    reason: Reason


@router.get("")
async def list_effects(daemon: Daemon, caller: Viewer, open: bool = True) -> Effects:
    """Leases on effects; with open=false also those that were returned."""
    return {"items": [shapes.effect(effect) for effect in await daemon.store.effects(open=open)]}


@router.get("/{id}")
async def get_effect(daemon: Daemon, caller: Viewer, id: Id) -> shapes.EffectShape:
    """One lease."""
    return shapes.effect(await daemon.store.effect(id))


@router.post("/{id}/renew")
async def renew_effect(daemon: Daemon, caller: Operator, id: Id, body: Renewal) -> shapes.EffectShape:
    """Let a lease, with all that the same call lent, end later."""
    longer = duration(body.expires, "expires")
    return shapes.effect(await daemon.renew_effect(id, longer, body.reason, caller.name))


@router.post("/{id}/return", status_code=201)
async def return_effect(daemon: Daemon, caller: Operator, id: Id, body: Recall) -> shapes.RunShape:
    """Put the prior value back now, by a run of its own, whether or not the alert still fires."""
    return shapes.run(await daemon.return_effect(id, body.reason, caller.name))
