"""A process that uses a store until a fail-point kills it. Says on its output what was answered.

Arguments: the store's file, the fail-point, how many rounds.
"""

from __future__ import annotations

import asyncio
import sys

from remediator import failpoint
from remediator.clock import SystemClock
from remediator.model import AuditEvent, IntentKind, Outcome, Progress, Run, State
from remediator.store import open_store
from tests.store.world import Lines, World, alert, delivery, opening


async def main(path: str, point: str, rounds: int) -> None:
    clock = SystemClock()
    store = open_store(f"sqlite://{path}", clock, receivers={"lines": Lines()})
    world = World(store, clock, lambda: None)  # type: ignore[arg-type]
    await store.open()
    await world.activate()
    failpoint.arm(point)
    for number in range(rounds):
        name = f"a{number}"
        print("send", name, flush=True)
        opened = opening("p", name, next_at=world.now)
        receipt = await store.accept(
            delivery((alert(name, at=world.now),), world.now), lambda one, now, wanted=opened: (wanted,)
        )
        print("accepted", name, flush=True)
        [run] = [one for one in await store.claim("w", 100) if one.id in receipt.runs]
        print("admit", run.id, flush=True)
        answer = await world.admit(run, 1)
        assert isinstance(answer, Run)
        print("admitted", run.id, flush=True)
        print("move", run.id, State.VERIFY, flush=True)
        run = await world.move(
            answer,
            State.VERIFY,
            progress=Progress(number=1, applied=(1,)),
            events=(AuditEvent(kind="action.applied", run=run.id),),
        )
        print("moved", run.id, State.VERIFY, flush=True)
        answer = await world.admit(run, 2, kind=IntentKind.REVERT)
        assert isinstance(answer, Run)
        print("move", run.id, Outcome.REVERTED, flush=True)
        await world.end(answer, Outcome.REVERTED, events=(AuditEvent(kind="run.reverted", run=run.id),))
        print("moved", run.id, Outcome.REVERTED, flush=True)
    await store.close()
    print("survived", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
