"""How the methods of every engine get to its database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from remediator.contracts import SteadyTime
from remediator.model import Instant
from remediator.store.history import History
from remediator.store.limits import Limits
from remediator.store.tx import Tx

T = TypeVar("T")


class SqlAccess(ABC):
    """An engine says how work gets to its database: as a write, as a read, or as a look at a few rows
    by their key."""

    _limits: Limits
    _history: History
    _key: bytes | None
    unwritable: Exception | None

    @property
    def steady(self) -> SteadyTime | None:
        """As described in `contracts.Store`."""
        return None

    @abstractmethod
    async def _write(
        self,
        work: Callable[[Tx], T],
        seconds: float | None = None,
        *,
        sync: bool = True,
        point: str = "",
        qualifier: str = "",
    ) -> T:
        """One transaction. `sync`: whether it must outlive a power cut. `point`: its fail-point."""

    @abstractmethod
    async def _read(self, work: Callable[[Tx], T], seconds: float | None = None) -> T:
        """One snapshot."""

    @abstractmethod
    async def _look(self, work: Callable[[Tx], T]) -> T:
        """A read that is quick."""

    @abstractmethod
    def _lease(self, tx: Tx) -> Instant:
        """Until when what is claimed now stays claimed."""
