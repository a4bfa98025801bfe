"""How runs are claimed, moved, admitted and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from remediator.contracts.admission import Admission, Held
from remediator.contracts.move import Move
from remediator.model import (
    AlertId,
    AuditEvent,
    Control,
    Episode,
    Instant,
    Intent,
    Reason,
    Run,
    RunId,
    Struct,
)


class Facts(Struct, frozen=True, kw_only=True):
    """What there is to know about a run, as it was at one moment.

    episodes: its own first, then those attached to it. intents: oldest first; empty where the run has had
    none. controls: the brakes that are on.
    """

    episodes: tuple[Episode, ...]
    intents: tuple[Intent, ...]
    controls: tuple[Control, ...]
    now: Instant


class Runs(Protocol):
    """Runs: claimed, moved on, admitted, found."""

    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        """Take due runs for this worker: epoch + 1 and a lease. Also turns leases (effects) that
        ran out into runs of origin LEASE."""

    async def release(self, runs: Sequence[Run]) -> None:
        """Hand claimed runs back unchanged, so that they are due at once (graceful shutdown)."""

    async def facts(self, runs: Sequence[Run]) -> Mapping[RunId, Facts]:
        """What an advance of each of these runs looks at, in one read."""

    async def next_due(self) -> Instant | None: ...

    async def move(self, run: Run, move: Move) -> Run:
        """Apply a move if the run's epoch still is this one and it is not handed back yet.

        Raises:
            LeaseLost: it is not, or it is; nothing was written.
            Braked: it makes an intent pending again, and a pause or a quarantine is on.
        """

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        """The ADMIT transaction: epoch, brakes, counters, lock, intent, state, audit."""

    async def evidence(self, run: RunId, number: int, events: Sequence[AuditEvent]) -> None:
        """Keep a zombie's late outcome. Changes no state."""

    async def run(self, id: RunId) -> Run: ...

    async def find_runs(
        self,
        *,
        open: bool | None = None,
        policy: str | None = None,
        alert: AlertId | None = None,
        before: RunId | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Newest first. By alert: also the runs the alert is attached to."""

    async def intents(self, run: RunId) -> Sequence[Intent]: ...

    async def shadow_count(self, policy: str, since: Instant) -> int:
        """How many runs of the policy ended `observed` since then: the shadow budget."""

    async def cancel(self, run: RunId, event: AuditEvent) -> Run:
        """End a run that has not been admitted.

        Raises:
            NotFound: no such run.
            Conflict: it has ended, or acts already.
        """

    async def wake(self, run: RunId) -> None:
        """Make an open run due now."""

    async def wake_held(self, reasons: Sequence[Reason]) -> None:
        """Make every open run due now that waits for one of these reasons."""
