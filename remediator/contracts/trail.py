"""The audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remediator.model import AlertId, AuditEvent, AuditRecord, Instant, Message, RunId, Struct


class SealReport(Struct, frozen=True, kw_only=True):
    """What `audit verify` found. ids are `source:id`."""

    sealed: int
    unsealed: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    broken: tuple[int, ...]
    head: str
    head_found: bool = True

    @property
    def whole(self) -> bool:
        return not (self.missing or self.changed or self.broken) and self.head_found


class Trail(Protocol):
    """What happened, sealed."""

    async def record(self, events: Sequence[AuditEvent], messages: Sequence[Message] = ()) -> None:
        """Append events, and post what people are to be told with them."""

    async def once(
        self, key: str, keep: Instant, events: Sequence[AuditEvent], messages: Sequence[Message] = ()
    ) -> bool:
        """As `record`, unless something was recorded under this key: then False, and nothing is written.

        Args:
            keep: until when the key must be remembered.
        """

    async def said(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys `once` has recorded something under."""

    async def audit(
        self,
        *,
        alert: AlertId | None = None,
        run: RunId | None = None,
        policy: str | None = None,
        target: str | None = None,
        kind: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        before: int | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Sequence[AuditRecord]:
        """Audit events and deliveries (as alert.accepted, alert.resolved …) in one order."""

    async def seal(self) -> str:
        """Seal what is committed and not sealed; returns the chain's head ("" when empty)."""

    async def verify(self, head: str | None = None) -> SealReport: ...
