"""A store that lacks what was committed before: a standby took over, or a backup was put back.

Budgets, leases and calls under way may be missing from it, so nothing new acts until a person has looked.
"""

from __future__ import annotations

from collections.abc import Mapping

from remediator.model import DAEMON, AuditEvent, Control, ControlKind, Message, Severity
from remediator.store import brakes, outbox, trail
from remediator.store.tx import Tx


def pause(tx: Tx, seen: str, data: Mapping[str, object]) -> None:
    """Pause the daemon, record why, and tell people.

    Args:
        seen: what was noticed, as a sentence without its full stop.
    """
    reason = f"{seen}: check what is missing, then resume"
    brakes.put(tx, Control(kind=ControlKind.PAUSE, scope="", reason=reason, actor="daemon", since=tx.now))
    event = AuditEvent(kind="control.paused", reason="database_changed", observed=reason, data=dict(data))
    trail.append(tx, (event,))
    body = (
        f"Seen: {reason}\n"
        "Alerts are taken, nothing new acts. What was committed last may be missing.\n"
        "Look: docs/operations.md, After a restore or a failover"
    )
    subject = "[P1] remediator paused: another database"
    outbox.post(tx, (Message(chain=DAEMON, severity=Severity.P1, subject=subject, body=body),))
