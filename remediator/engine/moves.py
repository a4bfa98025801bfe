"""Turns a step into the one transaction that writes it. Pure."""

from __future__ import annotations

import msgspec

from remediator import metrics
from remediator.contracts import Move
from remediator.engine.breaking import breaker
from remediator.engine.case import Case
from remediator.engine.escalation import ahead, called
from remediator.engine.ladder import failed
from remediator.engine.states.unknown import quarantine
from remediator.engine.step import End, Extra, Fail, Later, Step, Wait
from remediator.model import (
    MINUTE,
    SECOND,
    AuditEvent,
    Instant,
    Millis,
    Outcome,
    Reason,
    State,
    span,
)

_LONGEST_RETRY = Millis(15 * SECOND)
_LONGEST_REST = Millis(5 * MINUTE)
"""Between two looks of a run that knows when its brake ends. Whatever lifts the brake earlier wakes it; this
is for what nobody thought of."""


def backoff(attempts: int) -> Millis:
    """How long to wait before the next try: 1s, 2s, 4s … at most 15s."""
    return Millis(min(_LONGEST_RETRY, SECOND << min(attempts, 5)))


def patient(case: Case, wait: Wait) -> Step:
    """The wait itself, or what becomes of a run whose patience (`give_up`) has run out."""
    since = case.progress.waiting_since
    give_up = case.policy.give_up
    if since is None or case.now - since < give_up:
        return wait
    observed = f"{wait.reason} for {span(case.now - since)}: {wait.observed}"
    allowed = f"{wait.allowed}, within give_up {span(give_up)}"
    if case.run.state is State.UNKNOWN and case.pending is not None:
        return quarantine(case, case.pending, observed)
    if case.run.state is State.REVERTING:
        outcome, note = Outcome.ESCALATED, "could not go back"
    elif case.progress.applied:
        note = "waited too long"
        fail = Fail(Reason.GAVE_UP, observed, allowed, note, events=wait.events, extra=wait.extra)
        return failed(case, fail)
    else:
        outcome, note = Outcome.REFUSED, ""
    return End(outcome, Reason.GAVE_UP, observed, allowed, note, events=wait.events, extra=wait.extra)


def later(case: Case, step: Later, events: tuple[AuditEvent, ...], extra: Extra) -> Move:
    """A timer."""
    if step.reason is not None and step.reason is not case.run.reason:
        metrics.WAITS.labels(step.reason).inc()
    move = Move(
        state=step.state,
        next_at=step.next_at,
        progress=step.progress,
        reason=step.reason,
        observed=step.observed,
        allowed=step.allowed,
        events=(*events, *step.events),
    )
    return written(move, extra + step.extra)


def waiting(case: Case, step: Wait, events: tuple[AuditEvent, ...], extra: Extra) -> Move:
    """A wait, told once: again only when its reason changes."""
    since = case.progress.waiting_since or case.now
    state = State.GUARD if case.run.state is State.ACTING else case.run.state
    deadline = Instant(since + case.policy.give_up)
    if step.until is not None and step.until > case.now:
        retry = Instant(min(step.until, case.now + _LONGEST_REST))
    else:
        retry = Instant(case.now + backoff(case.progress.attempts))
    told = case.run.reason is step.reason and case.run.state is state
    all_events = (*events, *step.events)
    if not told:
        all_events = (*all_events, case.event("run.waiting", step.reason, step.observed, step.allowed))
        metrics.WAITS.labels(step.reason).inc()
    move = Move(
        state=state,
        next_at=Instant(min(retry, max(deadline, case.now + SECOND))),
        progress=msgspec.structs.replace(
            case.progress, waiting_since=since, attempts=case.progress.attempts + 1
        ),
        reason=step.reason,
        observed=step.observed,
        allowed=step.allowed,
        events=all_events,
        incident=ahead(case) if state is not State.HOLD else None,
    )
    return written(move, extra + step.extra)


def ended(case: Case, step: End, events: tuple[AuditEvent, ...], extra: Extra) -> Move:
    """The outcome, its audit event, and the call to a person where the policy wants one."""
    data = {**step.data, **({"note": step.note} if step.note else {})}
    extra += step.extra
    last = case.event(f"run.{step.outcome}", step.reason, step.observed, step.allowed, **data)
    move = Move(
        state=case.run.state,
        next_at=None,
        progress=case.progress,
        outcome=step.outcome,
        reason=step.reason,
        observed=step.observed,
        allowed=step.allowed,
        events=(*events, *step.events, last),
        breaker=breaker(case, step),
        incident=called(case, step),
    )
    return written(move, extra)


def written(move: Move, extra: Extra) -> Move:
    """The move with what else its transaction writes."""
    return msgspec.structs.replace(
        move,
        intents=extra.intents,
        effects=extra.effects,
        effect_done=extra.effect_done,
        effect_extend=extra.effect_extend,
        controls=extra.controls,
        ask=extra.ask,
        messages=move.messages + extra.messages,
    )
