"""The notifier that is always there: the daemon's own log."""

from __future__ import annotations

import structlog

from remediator.model import Message
from remediator.notify import text

log = structlog.get_logger("remediator.notify")


class LogNotifier:
    """Writes each message as one log line."""

    name = "log"

    async def send(self, message: Message) -> None:
        log.warning(
            "notification",
            chain=message.chain,
            severity=str(message.severity),
            subject=text.title(message),
            body=text.body(message),
            run=message.run,
            alert=message.alert,
        )
