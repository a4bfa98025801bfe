"""What is due on an incident: whom its chain calls, and whether to say how it stands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from remediator.model import Incident, IncidentProgress, Instant, Millis, span
from remediator.policy.escalation import LOG, Escalation, Step


@dataclass(frozen=True, slots=True)
class Call:
    """A step of the chain that is due. `key` is how it is remembered."""

    key: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is due now, and how the incident stands once it is done.

    announce: people hear for the first time that there is an incident.
    calls: the steps to tell. early: the last of them ahead of its time, for nobody acknowledged.
    update: a status update is due, or there are news.
    overdue: the deadline for an acknowledgement has just passed.
    """

    announce: bool
    calls: tuple[Call, ...]
    early: bool
    update: bool
    overdue: bool
    progress: IncidentProgress
    next_at: Instant

    @property
    def names(self) -> tuple[str, ...]:
        """Everyone whom the steps name."""
        return tuple(dict.fromkeys(name for call in self.calls for name in call.names))


def chain(escalation: Escalation, name: str, everyone: Iterable[str]) -> tuple[Step, ...]:
    """The steps of a chain as it is now. A chain that is gone calls everyone at once: better one call
    too many than none.

    Args:
        everyone: the notifiers that there are, without the customers'.
    """
    if not name:
        return ()
    known = escalation.chains.get(name)
    if known is not None:
        return known
    return (Step(after=Millis(0), notify=(*everyone, LOG)),)


def key(step: Step) -> str:
    """A step by what it says: chains are edited while incidents are open, and what was told must not
    be told again, nor a new step be skipped, because others moved."""
    condition = f" if {step.if_}" if step.if_ is not None else ""
    return f"after {span(step.after)}: {', '.join(step.notify)}{condition}"


def turn(
    incident: Incident, steps: Sequence[Step], deadline: Millis | None, every: Millis, now: Instant
) -> Turn:
    """What is due on an open incident now.

    Args:
        steps: of its chain, as it stands in the active policies.
        deadline: how soon an incident of this severity must be acknowledged; None for never.
        every: from one status update to the next.
    """
    progress = incident.progress
    # A clock that went back makes it open in the future: that is no reason to call nobody until then.
    elapsed = max(0, now - incident.opened_at)
    waiting = _waiting(incident, steps)
    due = [step for step in waiting if step.after <= elapsed]
    overdue = early = False
    if incident.acknowledged_at is None and deadline is not None and progress.overdue_at is None:
        overdue = elapsed >= deadline
        ahead = [step for step in waiting if step.after > elapsed]
        if overdue and progress.announced and not due and ahead:
            due.append(ahead[0])
            early = True
    calls = tuple(Call(key(step), step.notify) for step in due)
    announce = not progress.announced
    told = (*progress.told, *(call.key for call in calls))
    called = dict.fromkeys((*progress.called, *(name for step in due for name in step.notify)))
    # One update for all the time in which nobody was there to give any.
    updates = max(progress.updates, elapsed // every)
    timely = not announce and updates > progress.updates
    after = msgspec.structs.replace(
        progress,
        announced=True,
        told=told,
        called=tuple(name for name in called if name != LOG),
        news=(),
        updates=updates,
        overdue_at=now if overdue else progress.overdue_at,
    )
    return Turn(
        announce=announce,
        calls=calls,
        early=early,
        update=timely or (not announce and bool(progress.news)),
        overdue=overdue,
        progress=after,
        next_at=_next(incident, after, steps, deadline, every),
    )


def next_call(
    incident: Incident, progress: IncidentProgress, steps: Sequence[Step]
) -> tuple[Instant, Step] | None:
    """The step that comes next by time, unless someone acknowledges."""
    waiting = _waiting(msgspec.structs.replace(incident, progress=progress), steps)
    if not waiting:
        return None
    step = min(waiting, key=lambda one: one.after)
    return Instant(incident.opened_at + step.after), step


def _waiting(incident: Incident, steps: Sequence[Step]) -> list[Step]:
    """The steps that are not told and may be, in their order."""
    if incident.acknowledged_at is not None:
        return []
    return [
        step
        for step in steps
        if key(step) not in incident.progress.told and (step.if_ is None or step.if_.holds(incident.severity))
    ]


def _next(
    incident: Incident,
    after: IncidentProgress,
    steps: Sequence[Step],
    deadline: Millis | None,
    every: Millis,
) -> Instant:
    times = [Instant(incident.opened_at + (after.updates + 1) * every)]
    call = next_call(incident, after, steps)
    if call is not None:
        times.append(call[0])
    if incident.acknowledged_at is None and deadline is not None and after.overdue_at is None:
        times.append(Instant(incident.opened_at + deadline))
    return min(times)
