"""The messages that are to go out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remediator.model import AuditEvent, Instant, Message, Struct


class NotifierState(Struct, frozen=True, kw_only=True):
    """A notifier that has failed at least once. failing_since: None while it is well. told_at: when
    people were told that it fails."""

    name: str
    failing_since: Instant | None
    retry_at: Instant | None
    told_at: Instant | None
    error: str


class Outgoing(Struct, frozen=True, kw_only=True):
    """A message of the outbox that is due. notifier: the one it is for; None while nobody has said."""

    id: int
    at: Instant
    attempts: int
    message: Message
    notifier: str | None = None


class Outbox(Protocol):
    """Messages, a row for each notifier, until they are out."""

    async def due_messages(self, limit: int) -> Sequence[Outgoing]: ...

    async def spread_message(self, id: int, notifiers: Sequence[str]) -> bool:
        """Address a message to these notifiers, a row each; False if it is addressed already."""

    async def message_sent(self, id: int, event: AuditEvent) -> NotifierState | None:
        """Record that a message went out; how its notifier stands now.

        Raises:
            NotFound: there is no unsent message of that id.
        """

    async def message_failed(self, id: int, retry_at: Instant, error: str) -> NotifierState | None:
        """Record a failed try; its notifier is tried less and less often, by whichever message.

        Raises:
            NotFound: there is no unsent message of that id.
        """

    async def abandon_messages(self, notifier: str, before: Instant, event: AuditEvent) -> int:
        """Give up what this notifier has not taken since then; returns how many messages."""

    async def notifiers(self) -> Sequence[NotifierState]:
        """Those that have failed once, by name."""

    async def tell_notifier(
        self, name: str, failing: bool, event: AuditEvent, messages: Sequence[Message]
    ) -> bool:
        """Say once that a notifier fails, or is well again; False if that was said, or is not so."""
