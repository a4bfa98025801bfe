"""The store that tells of what it has committed: nothing but what the contract says, and no method less."""

from __future__ import annotations

import inspect

import pytest

from remediator.contracts import Store
from remediator.live.announcing import _Announcing, announcing
from remediator.live.hub import Hub, Kind
from remediator.model import AuditEvent, Control, ControlKind, Outcome, State
from remediator.store import open_store
from tests.store.world import START, DrivenClock, Lines, World, opening

OVERRIDDEN = [name for name in vars(_Announcing) if not name.startswith("_")]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_it_has_the_signature_of_the_contract(name: str) -> None:
    own, wanted = (inspect.signature(getattr(kind, name)) for kind in (_Announcing, Store))
    assert own == wanted


async def test_runs_controls_and_effects_are_told_after_their_commit() -> None:
    clock, hub = DrivenClock(START), Hub()
    store = announcing(open_store("sqlite://", clock, receivers={"lines": Lines()}), hub)
    looking = hub.join()
    assert looking is not None

    async def reopen() -> None:
        raise NotImplementedError

    world = World(store, clock, reopen, openings=lambda one: (opening(),))
    await store.open()
    await world.activate()
    run = await world.start("a")
    assert await looking.next() == [(Kind.RUN, run.id)]
    run = await world.admitted(run)
    await world.end(await world.moved(run, State.VERIFY), Outcome.SUCCEEDED)
    assert await looking.next() == [(Kind.RUN, run.id)]  # three times the same is one
    brake = Control(kind=ControlKind.PAUSE, scope="policy:p", reason="x", actor="alice", since=START)
    await store.set_control(brake, AuditEvent(kind="control.paused"))
    assert await looking.next() == [(Kind.CONTROL, "pause:policy:p")]
    await store.clear_control(ControlKind.PAUSE, "policy:p", AuditEvent(kind="control.resumed"))
    assert await looking.next() == [(Kind.CONTROL, "pause:policy:p")]
    assert await store.now() == START  # and everything else is the store's own
    await store.close()
