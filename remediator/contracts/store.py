"""The durable truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from remediator.contracts.approvals import Approvals
from remediator.contracts.brakes import Brakes
from remediator.contracts.clock import SteadyTime
from remediator.contracts.incidents import Incidents
from remediator.contracts.intake import Intake
from remediator.contracts.outbox import Outbox
from remediator.contracts.revisions import Revisions
from remediator.contracts.runs import Runs
from remediator.contracts.trail import Trail
from remediator.model import SECOND, Instant, Millis, Struct


class Health(Struct, frozen=True, kw_only=True):
    """Numbers about the store for /metrics and /readyz."""

    open_runs: int
    oldest_due_at: Instant | None
    outbox_oldest_at: Instant | None
    unsealed_oldest_at: Instant | None


LOOK = Millis(5 * SECOND)
"""How long at most until a process looks by itself for what it was told nothing of."""


class Hint(StrEnum):
    """What may have happened in another process that shares the store."""

    DUE = "due"
    """A run may be due."""
    POLICIES = "policies"
    """Another policy set may be active."""


class Store(Intake, Runs, Approvals, Revisions, Brakes, Incidents, Outbox, Trail, Protocol):
    """The durable truth. Every method that writes is one transaction and returns after commit.

    Raises (all methods):
        StoreUnavailable: nothing was written as far as is known; fail closed.
    """

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def hints(self, told: Callable[[Hint], None]) -> None:
        """Call `told`, in the event loop, when another process may have changed something. It only saves
        waiting for the next look: a hint may come for nothing, twice, late or never. A store that has one
        process gives none. To be asked before `open`."""

    @property
    def steady(self) -> SteadyTime | None:
        """The clock of a server of its own, which may jump: whoever watches it calls `jumped`, and gives no
        clock. None where time comes from a clock that the store was given."""

    @property
    def fatal(self) -> Exception | None:
        """Why this store will answer nothing more until the process starts anew (a sync that failed:
        nobody knows what the disk holds); None if all is well."""

    @property
    def unwritable(self) -> Exception | None:
        """Why a write did not go through (a full disk, a server that is away), until a probe of some size
        has: a disk that has no room for an alert still has some for a claim."""

    async def probe(self, size: int = 0) -> None:
        """Write something that means nothing, durably, to learn whether that is possible.

        Args:
            size: bytes. One of 0 only looks; one of more that goes through also ends `unwritable`.
        """

    async def now(self) -> Instant:
        """The store's clock, which decides everything that depends on time."""

    def told(self) -> Instant | None:
        """What `now` answers, if it can be answered without waiting; else None."""

    async def prune(self, keep: Mapping[str, Millis]) -> Mapping[str, int]:
        """Delete rows of each table older than its retention; returns how many."""

    async def health(self) -> Health: ...
