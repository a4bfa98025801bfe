"""How deliveries come into the store."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Protocol

from remediator.contracts.receiver import Bad, Parsed
from remediator.model import (
    Alert,
    AlertId,
    AuditEvent,
    Episode,
    Instant,
    Mode,
    Origin,
    Run,
    RunId,
    State,
    Struct,
)


class Opening(Struct, frozen=True, kw_only=True):
    """A run to be opened for a new episode: what matching found, not yet a row.

    target None means that it could not be named (the first advance refuses and says why).
    open_runs: the policy's limit of open runs; beyond it the run is stored refused.
    started: who started it by hand and why; the store fills in the alert, the run and its target.
    """

    policy: str
    policy_revision: str
    target: str | None
    mode: Mode
    state: State
    next_at: Instant
    open_runs: int
    origin: Origin = Origin.ALERT
    started: AuditEvent | None = None


Match = Callable[[Alert, Instant], Sequence[Opening]]
"""(alert, time of receipt) → the runs to open. Pure and fast; called for new episodes only."""


class Delivery(Struct, frozen=True, kw_only=True):
    """One authenticated body on its way into the store. `revision` is the active policy set's.

    key: of what a person starts, "" where it has none; None for what senders post. What is started again with
        the same key changes nothing, and its receipt names the alert that was opened then.
    """

    sender: str
    kind: str
    body: bytes
    parsed: Parsed
    revision: str
    received_at: Instant
    key: str | None = None


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of a delivery, after its commit.

    refused: the policies that had as many open runs as they may, once for each run refused.
    due: when the first of the runs that it opened or woke is to be looked at; None if none is.
    claimed: runs that it opened and that are the claimant's from the start, as if by `claim`; they are not
        among those that are due.
    """

    accepted: int = 0
    repeated: int = 0
    resolved: int = 0
    updated: int = 0
    runs: tuple[RunId, ...] = ()
    alerts: tuple[AlertId, ...] = ()
    refused: tuple[str, ...] = ()
    due: Instant | None = None
    claimed: tuple[Run, ...] = ()


class Claimant(Protocol):
    """Who would begin to work on new runs at once."""

    @property
    def name(self) -> str:
        """As for `claim`."""

    def room(self) -> int:
        """How many more runs it would take on now. Asked from any thread; what it gets beyond that it hands
        back."""


class Intake(Protocol):
    """How deliveries come in, and what became of them."""

    async def accept(self, delivery: Delivery, match: Match, claimant: Claimant | None = None) -> Receipt:
        """Take a delivery: new episodes with their runs, changes, and the raw body.

        A body that changes nothing is not written again.

        Args:
            claimant: may be given runs that this opens and that are due at once. A store need not do so.
        """

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | Future[Receipt]:
        """As `accept`, for whoever has no task that could wait: the receipt if it is known at once, else the
        promise of one. Whoever gives up cancels the promise; what is being written by then may be committed.
        In the event loop's thread."""

    async def reject(
        self, sender: str, status: int, bad: Sequence[Bad], events: Sequence[AuditEvent]
    ) -> None:
        """Keep what could not be taken (bounded in number and size)."""

    async def episode(self, id: AlertId) -> Episode: ...

    async def started(self, limit: int) -> Sequence[Episode]:
        """What people have started and fires still, although every run about it has ended; oldest first."""

    async def episodes(self, run: RunId) -> Sequence[Episode]:
        """The run's own episode first, then those attached to it."""

    async def find_episodes(
        self, *, firing: bool | None = None, before: AlertId | None = None, limit: int = 100
    ) -> Sequence[Episode]:
        """Newest first."""
