"""The policy sets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from remediator.model import AuditEvent, Instant, Struct


class Revision(Struct, frozen=True, kw_only=True):
    """A policy set as stored: hash of its files, the files' texts by name, where it came from."""

    hash: str
    files: dict[str, str]
    git: str = ""
    loaded_at: Instant = Instant(0)


class Revisions(Protocol):
    """Which policy set is active, and what each held."""

    async def propose(
        self, revision: Revision, events: Sequence[AuditEvent], replica: str | None = None
    ) -> None:
        """Make this policy set the active one. Args: replica: whose directory it is from; see `looked`."""

    async def looked(self, replica: str) -> str | None:
        """The hash of what a replica's directory held when it last looked; None if it never did."""

    async def look(self, replica: str, hash: str) -> None:
        """Remember what a replica's directory holds."""

    async def active_revision(self) -> str | None: ...

    async def revision(self, hash: str) -> Revision: ...

    async def policy_names(self) -> Collection[str]:
        """What files of sets that are kept are called, without .yaml; and the policies of all runs."""
