"""Pauses, quarantines and breakers, and the leases on effects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from remediator.contracts.admission import Admission, Arrivals, Flapping, Held
from remediator.contracts.clock import Jumping
from remediator.model import AuditEvent, Control, ControlKind, Effect, Instant, Message, Millis, Run, RunId


class Brakes(Protocol):
    """What is on, who set it, what counts towards it; and what is lent."""

    async def controls(self) -> Sequence[Control]:
        """The brakes that are on now; expired ones are left out."""

    async def set_control(
        self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()
    ) -> Control:
        """Set a brake; returns the one that stands. A pause takes nothing from one of the same scope that
        lasts longer: that stays, and the event says so (`stays`, else `replaced`)."""

    async def trip(self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()) -> bool:
        """Set a brake that the daemon finds itself; returns whether that is news. If it is on already, it
        only lasts longer: nothing is recorded and nobody is told again."""

    async def arrivals(self, after: Instant, sender: str | None = None) -> Sequence[Arrivals]:
        """New episodes since then, by sender and second; of one sender or of all."""

    async def healed(self, run: Run, flapping: Flapping) -> int:
        """How many runs of this run's policy ended well within the budget's window on this run's target,
        or about this very alert. Exact from the budget's count on; below it, any number that is."""

    async def jumped(
        self,
        by: Millis,
        control: Control,
        event: AuditEvent,
        messages: Sequence[Message] = (),
        clock: Jumping | None = None,
    ) -> None:
        """`set_control`, and every timer that is still to come is moved by so much. What is asked for twice,
        because an answer was lost or several have seen the jump, is done once.

        Args:
            by: where the store's time is a server's (`steady`), or `clock` is given, that is asked in the
                transaction instead.
            clock: the one that jumped, where the store was given it. It follows right after the commit, so
                that nobody looks at moved timers by the old time.
        """

    async def clear_control(self, kind: ControlKind, scope: str, event: AuditEvent) -> bool: ...

    async def effects(self, *, open: bool = True) -> Sequence[Effect]: ...

    async def effect(self, id: int) -> Effect: ...

    async def renew_effect(self, id: int, until: Instant, event: AuditEvent) -> Effect:
        """Put the end of a lease off, for all that one call lent.

        Raises:
            NotFound, Conflict: there is none, or it is over, is being returned, or ends later already.
        """

    async def recall_effect(self, id: int, event: AuditEvent) -> Run:
        """Open the run that returns a lease now.

        Raises:
            NotFound, Conflict: there is none, or it is over, or is being returned.
        """

    async def full(self, run: Run, admission: Admission) -> Held | None:
        """The budget or cooldown that would hold this action now, so that nobody is asked about it in
        vain. A look: ADMIT asks again."""

    async def names(self, target_key: str) -> Sequence[str]:
        """The names under which runs have acted on this target lately."""

    async def targets(self) -> Collection[str]:
        """The names and keys of the targets that runs have met or brakes are about, as far as they are
        kept."""

    async def locks(self) -> Mapping[str, RunId]:
        """Target key → the run that holds it."""
