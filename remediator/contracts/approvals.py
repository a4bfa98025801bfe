"""The questions to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remediator.model import Approval, AuditEvent, Decision, RunId


class Approvals(Protocol):
    """Questions to people, each decided once."""

    async def approval_number(self) -> int:
        """A number for a question that is about to be asked: its link is made before it is stored."""

    async def approval(self, id: int) -> Approval: ...

    async def approvals(
        self, *, run: RunId | None = None, open: bool | None = None, limit: int = 100
    ) -> Sequence[Approval]:
        """Newest first."""

    async def decide(self, id: int, decision: Decision, event: AuditEvent) -> Approval:
        """Approve or reject, once, for good; the run is due at once and taken from whoever looks at it.

        Args:
            event: whose actor decides; its `observed` is the comment. The store fills in the rest.

        Raises:
            NotFound: there is no such approval.
            Conflict: it is decided, has expired by the store's clock, or its run does not wait for it.
        """
