"""Who brings a message to people."""

from __future__ import annotations

from typing import Protocol

from remediator.model import Message


class Notifier(Protocol):
    name: str

    async def send(self, message: Message) -> None:
        """Deliver one message, or raise."""
