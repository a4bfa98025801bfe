"""Messages to people."""

from __future__ import annotations

from remediator.model.incident import Severity
from remediator.model.value import AlertId, IncidentId, RunId, Struct

DAEMON = "daemon"
"""The chain of what the daemon has to say about itself. Where escalation.yaml has none of that name,
every notifier is told."""


class Message(Struct, frozen=True, kw_only=True):
    """A notification in the outbox: to whom (a chain, or notifiers by name), about what.

    notifiers: exactly these; where there are none, the first step of the chain is resolved when the
        message is sent.
    public: for customers, so that nothing of ours may be added to it.
    """

    chain: str
    severity: Severity
    subject: str
    body: str
    run: RunId | None = None
    alert: AlertId | None = None
    incident: IncidentId | None = None
    notifiers: tuple[str, ...] = ()
    public: bool = False
