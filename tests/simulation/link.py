"""A process's connection to the store: requests travel, and things go wrong on the way.

The store itself answers each request at one instant. Before that it may be that the request never arrives;
after it, that the answer is lost; or the request arrives long after its caller has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from remediator.errors import StoreUnavailable
from tests.simulation.loop import Host

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

READS = frozenset(
    {
        "now", "episode", "episodes", "find_episodes", "next_due", "run", "find_runs", "intents",
        "shadow_count", "active_revision", "revision", "controls", "effects", "effect", "locks",
        "due_messages", "audit", "verify", "health", "arrivals", "healed", "approval", "approvals",
        "names", "facts", "looked", "notifiers", "incident", "find_incidents", "incident_runs",
        "due_incidents", "settled_incidents",
        "started", "joining_runs", "next_incident_at", "said",
    }
)  # fmt: skip
ANSWERED_WITHIN = 10.0


class Link:
    """A contracts.Store for one process; every method goes over the wire."""

    fatal = None
    steady = None
    unwritable = None

    def __init__(self, simulation: Simulation, host: Host) -> None:
        self._simulation = simulation
        self._host = host
        self._hinted: list[Callable[[Any], None]] = []
        simulation.links.append(self)

    def hints(self, told: Callable[[Any], None]) -> None:
        self._hinted.append(told)

    def hint(self, hint: Any) -> None:
        """The store says that something may be due. A hint may come late, and may be lost."""
        loop, simulation = self._simulation.loop, self._simulation
        if self._host.dead or simulation.draw("hint") < 0.1:
            return
        delay = simulation.draw("hint") * 0.05
        for told in self._hinted:
            loop.call_later(delay, told, hint, context=self._host.context)

    async def open(self) -> None:
        """The store is there already."""

    async def close(self) -> None:
        """The store goes on."""

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def method(*args: Any, **options: Any) -> Any:
            return await self._ask(name, args, options)

        self.__dict__[name] = method
        return method

    async def _ask(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        simulation, loop = self._simulation, self._simulation.loop
        fault = simulation.fault(name, "store-read" if name in READS else "store-write")
        what, amount = (fault.what, fault.amount) if fault is not None else ("", 0.0)
        if what == "late" and name in READS:
            what = "before"
        done = loop.create_future()
        there, back = simulation.draw("net") * 0.004, simulation.draw("net") * 0.004
        own = self._host.context
        # Where the store is in that very process, it stands still and dies with it.
        shared = own if simulation.scenario.alone else loop.outside.context
        error = StoreUnavailable("the store did not answer; try again")

        def answer(value: Any, raised: Exception | None) -> None:
            if done.done():
                return
            if raised is not None:
                done.set_exception(raised)
            else:
                done.set_result(value)

        if not what and name in READS:  # nothing goes wrong, and nothing is changed: one way is enough

            def read() -> None:
                answer(*simulation.serve(self._host, name, args, options))

            loop.call_later(there + back, read, context=own)
            value = await done
            if name == "now" and asyncio.current_task().get_name() == "clock":  # type: ignore[union-attr]
                simulation.oracle.watched(self._host)
            return value

        def arrive() -> None:
            value, raised = simulation.serve(self._host, name, args, options)
            if what == "lost":
                value, raised = None, error
            if what != "late":
                loop.call_later(back, answer, value, raised, context=own)

        if what == "before":
            loop.call_later(there, answer, None, error, context=own)
            return await done
        if what == "late":  # its caller is told that nothing is known, and then it is written
            loop.call_later(there, answer, None, error, context=own)
            there += amount * 5
        elif what == "slow":
            there += amount * (ANSWERED_WITHIN - 1)
        loop.call_later(there, arrive, context=shared)
        return await done


def suspended(work: Coroutine[Any, Any, Any]) -> tuple[Any, Exception | None]:
    """The answer of a call that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value, None
    except Exception as error:  # noqa: BLE001 - the store's own answer
        return None, error
    work.close()
    raise AssertionError("the store in memory waited for something")
