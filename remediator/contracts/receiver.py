"""What a receiver makes of a body."""

from __future__ import annotations

from typing import Protocol

from remediator.model import Alert, Instant, Struct


class Bad(Struct, frozen=True, kw_only=True):
    """An alert, or a whole body, that could not be taken, kept so that nothing is lost silently."""

    field: str
    message: str
    body: bytes


class Parsed(Struct, frozen=True, kw_only=True):
    """What a receiver made of a body.

    alerts: the good ones, with a digest of what each says (a repeat has an equal digest).
    bad: the rest. truncated: how many the sender says it left out.
    test: a test notification; it is recorded and never acted on.
    """

    alerts: tuple[tuple[Alert, int], ...]
    bad: tuple[Bad, ...] = ()
    truncated: int = 0
    test: bool = False


class Receiver(Protocol):
    """Understands the bodies of one kind of sender."""

    kind: str

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        """Parse one body.

        Raises:
            PayloadError: the envelope cannot be read (400).
        """

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        """The alert at `position` of a body that `parse` has accepted before."""
