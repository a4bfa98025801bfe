"""The storm breaker: many new alerts of one sender at once are no moment to act one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from remediator.contracts import Arrivals, Store
from remediator.engine.shapes import time
from remediator.model import (
    DAEMON,
    SECOND,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Message,
    Reason,
    Severity,
    span,
)
from remediator.policy.limits import Storm


def raging(counts: Iterable[Arrivals], rule: Storm, now: Instant) -> tuple[Instant, int] | None:
    """Until when a storm holds, and how many came within its window; None if none does. Pure.

    A storm is read from what is stored, not remembered: after a restart, and on a replica that slept
    through it, the answer is the same.

    Args:
        counts: one sender's arrivals since `now - rule.within - rule.hold`, oldest first.
    """
    window: deque[Arrivals] = deque()
    total = 0
    found: tuple[Instant, int] | None = None
    for one in counts:
        window.append(one)
        total += one.count
        while window[0].at <= one.at - rule.within:
            total -= window.popleft().count
        if total >= rule.new_alerts:
            found = (Instant(one.at + SECOND + rule.hold), total)
    return found if found is not None and found[0] > now else None


async def held(store: Store, rule: Storm, sender: str, now: Instant) -> Control | None:
    """The storm of this sender that is on now. One that nobody has noticed yet is made known."""
    counts = await store.arrivals(Instant(now - rule.within - rule.hold - SECOND), sender)
    found = raging(counts, rule, now)
    if found is None:
        return None
    control, event, message = told(rule, sender, *found, now)
    await store.trip(control, event, (message,))
    return control


def told(
    rule: Storm, sender: str, until: Instant, count: int, now: Instant
) -> tuple[Control, AuditEvent, Message]:
    """The brake, and what is said of it. Pure."""
    seen = f"{count} new alerts of {sender} within {span(rule.within)}"
    allowed = f"fewer than {rule.new_alerts}"
    data = {"sender": sender, "count": count, "until": time(until)}
    control = Control(
        kind=ControlKind.STORM,
        scope=f"sender:{sender}",
        reason=seen,
        actor="daemon",
        since=now,
        until=until,
        data=data,
    )
    event = AuditEvent(kind="storm.tripped", reason=Reason.STORM, observed=seen, allowed=allowed, data=data)
    message = Message(
        chain=rule.escalate or DAEMON,
        severity=Severity.P2,
        subject=f"[P2] a storm of alerts from {sender}: nothing is acted upon until {time(until)}",
        body=(
            f"Seen: {seen}\n"
            f"Allowed: {allowed}\n"
            f"Done: actions on alerts of {sender} wait until {time(until)}, longer if more keep coming;\n"
            "then the guards and live checks are asked again. What already acts is finished and verified.\n"
            "Look: remediator alerts list"
        ),
    )
    return control, event, message
