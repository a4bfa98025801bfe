"""What waits in the writer's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from remediator.contracts import Admission, Claimant, Delivery, Match, Receipt
from remediator.model import Instant, Run
from remediator.store.sqlite.tx import SqliteTx


class Promise(Protocol):
    """What a call waits for. Only `done` is asked from the writer's thread."""

    def done(self) -> bool: ...


class Call:
    """One call in the queue.

    Args:
        work: writes and answers; run inside a savepoint.
        sync: whether the answer must outlive a power cut. What need not (a claim) shares the sync
            of its group, or waits for none.
        point: the fail-point's name before `.before_commit`, "" for none.
        qualifier: its qualifier.
        whole: it raises LeaseLost before it has written anything, and nearly never anything else.
    """

    __slots__ = ("answer", "error", "point", "promise", "qualifier", "sync", "whole", "work")

    def __init__(
        self,
        work: Callable[[SqliteTx], object],
        promise: Promise | None,
        sync: bool = True,
        point: str = "",
        qualifier: str = "",
        whole: bool = False,
    ) -> None:
        self.work = work
        self.whole = whole
        self.promise = promise
        self.sync = sync
        self.point = point
        self.qualifier = qualifier
        self.answer: object = None
        self.error: BaseException | None = None


class Admitting(Call):
    """One that asks for the permission to act. Args: lease: until when its run then stays its worker's."""

    __slots__ = ("admission", "lease", "run")

    def __init__(
        self,
        work: Callable[[SqliteTx], object],
        promise: Promise | None,
        *,
        run: Run,
        admission: Admission,
        lease: Callable[[SqliteTx], Instant],
    ) -> None:
        super().__init__(work, promise, point="admit", qualifier=str(admission.intent.kind))
        self.run = run
        self.admission = admission
        self.lease = lease


class Taking:
    """One delivery in the queue."""

    __slots__ = ("answer", "claimant", "delivery", "error", "match", "promise")

    def __init__(
        self, delivery: Delivery, match: Match, promise: Promise | None, claimant: Claimant | None = None
    ) -> None:
        self.claimant = claimant
        self.delivery = delivery
        self.match = match
        self.promise = promise
        self.answer: Receipt | None = None
        self.error: BaseException | None = None
