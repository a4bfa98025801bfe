"""ACTING: the process that inserted the intent calls, once, and writes down what came of it."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from remediator import failpoint
from remediator.contracts import IntentUpdate, NewEffect
from remediator.engine.case import Case
from remediator.engine.ladder import rung_broken
from remediator.engine.step import End, Extra, Fail, Go, Later, Step, Wait
from remediator.errors import Ambiguous, Permanent, Refused, StoreError, StoreUnavailable, Temporary
from remediator.model import (
    AuditEvent,
    Instant,
    Intent,
    IntentKind,
    IntentOutcome,
    Outcome,
    Reason,
    State,
)

log = structlog.get_logger()
_tasks: set[asyncio.Task[None]] = set()

_PERSISTENCE = 600
"""How often, a second apart, it is tried to keep what came late."""

BEGIN_WITHIN = 20.0
"""Seconds from asking for the permission to call until it is too old to be used: well under the lease."""


async def act(case: Case, intent: Intent, asked: float) -> Step:
    """Call the action. Only ever reached in the process that has just committed the intent.

    Args:
        asked: when the permission was asked for, by the executor's `passed`. It is not used
            when it has become old: whoever was stopped since may have lost the run, and what was true
            then may not be now.
    """
    action = case.action(intent.plan.action)
    failpoint.hit("apply.before", action.name)
    try:
        evidence = await case.tools.execute.apply(
            action,
            intent.plan,
            intent.token,
            case.now,
            case.episode,
            _Late(case, intent),
            begin_by=asked + BEGIN_WITHIN,
        )
    except Ambiguous as error:
        now = await _now(case)
        return unknown(case, intent, str(error), Instant(now + action.landing_time))
    except Temporary as error:
        if intent.outcome is IntentOutcome.UNKNOWN:  # as below: it says nothing of the first call
            now = await _now(case)
            return unknown(
                case, intent, f"issued again and not taken: {error}", Instant(now + action.landing_time)
            )
        return Wait(
            Reason.TEMPORARY_FAILURE,
            observed=str(error),
            allowed="an answer",
            events=(case.event("action.failed", Reason.TEMPORARY_FAILURE, str(error), number=intent.number),),
            extra=_not_applied(intent),
        )
    except (Permanent, Refused) as error:
        if isinstance(error, Refused) and intent.outcome is IntentOutcome.UNKNOWN:
            # Issued again, and the thing is no longer what it was when it was looked at. That may be the
            # work of the first call, so what this refusal proves of the second says nothing: look again.
            now = await _now(case)
            return unknown(
                case, intent, f"issued again and refused: {error}", Instant(now + action.landing_time)
            )
        reason = error.reason if isinstance(error, Refused) else Reason.ACTION_FAILED
        event = case.event("action.failed", reason, str(error), number=intent.number)
        return _failure(case, intent, reason, str(error), event)
    failpoint.hit("apply.after", action.name)
    return applied(case, intent, evidence, await _now(case))


async def _now(case: Case) -> Instant:
    """The store's time, waited for: what the call came to is not dropped because the store is away."""
    while True:
        try:
            return await case.tools.store.now()
        except StoreUnavailable as error:
            if case.tools.store.fatal is not None:
                raise  # it will not come back to this process: the next one finds the intent, and looks
            log.warning("outcome.kept", run=case.run.id, error=str(error))
            await asyncio.sleep(1)


def _failure(case: Case, intent: Intent, reason: Reason, seen: str, event: AuditEvent) -> Step:
    allowed = f"{intent.plan.action} goes through"
    if intent.kind is not IntentKind.APPLY:
        return End(
            Outcome.ESCALATED,
            reason,
            seen,
            allowed,
            note="could not go back",
            events=(event,),
            extra=_not_applied(intent),
        )
    return rung_broken(
        case,
        Fail(reason, seen, allowed, note="not applied", events=(event,), extra=_not_applied(intent)),
    )


def applied(case: Case, intent: Intent, evidence: dict[str, object], now: Instant) -> Later:
    """The call went through: wait for the provider to finish."""
    action = case.action(intent.plan.action)
    progress = msgspec.structs.replace(
        case.progress,
        settle_until=Instant(now + action.settle_time),
        waiting_since=None,
        attempts=0,
    )
    going_back = intent.kind is not IntentKind.APPLY
    if not going_back:
        progress = msgspec.structs.replace(progress, applied=(*progress.applied, intent.number))
    return Later(
        State.REVERTING if going_back else State.SETTLING,
        now,
        progress,
        events=(
            case.event(
                "action.reverted" if going_back else "action.applied",
                action=action.name,
                number=intent.number,
                before=intent.plan.before,
                after=intent.plan.after,
                evidence=evidence,
            ),
        ),
        extra=Extra(
            intents=(
                IntentUpdate(number=intent.number, outcome=IntentOutcome.APPLIED, evidence=dict(evidence)),
            ),
            effects=() if going_back else _leases(case, intent, now),
        ),
    )


def unknown(case: Case, intent: Intent, why: str, look_at: Instant) -> Later:
    """The outcome is not certain: never repeated blindly, never forgotten."""
    return Later(
        State.UNKNOWN,
        look_at,
        msgspec.structs.replace(case.progress, waiting_since=None, attempts=0),
        reason=Reason.ACTION_UNKNOWN,
        observed=why,
        allowed="a certain outcome",
        events=(case.event("action.unknown", Reason.ACTION_UNKNOWN, why, number=intent.number),),
        extra=Extra(intents=(IntentUpdate(number=intent.number, outcome=IntentOutcome.UNKNOWN),)),
    )


async def left_acting(case: Case) -> Step:
    """A run found in ACTING: whoever inserted its intent is gone, and may or may not have called."""
    intent = case.pending
    if intent is None:
        return Go(State.GUARD, case.progress)
    action = case.action(intent.plan.action)
    return unknown(
        case, intent, "the daemon stopped between intent and outcome", Instant(case.now + action.landing_time)
    )


def _not_applied(intent: Intent) -> Extra:
    return Extra(intents=(IntentUpdate(number=intent.number, outcome=IntentOutcome.NOT_APPLIED),))


def _leases(case: Case, intent: Intent, now: Instant) -> tuple[NewEffect, ...]:
    expires = case.policy.remedies[intent.rung].expires
    if expires is None:
        return ()
    plan = intent.plan
    return tuple(
        NewEffect(
            field=field,
            prior=plan.before.get(field),
            current=value,
            plan=plan,
            expires_at=Instant(now + expires),
        )
        for field, value in plan.after.items()
    )


class _Late:
    """Keeps the outcome of a call that came after its deadline, as evidence only."""

    def __init__(self, case: Case, intent: Intent) -> None:
        self.case, self.intent = case, intent

    def __call__(self, value: object | None, error: BaseException | None) -> None:
        seen = f"it failed: {type(error).__name__}: {error}" if error is not None else "it went through"
        keeping = keep_late(self.case, self.intent.number, seen)
        task = asyncio.get_running_loop().create_task(keeping)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def keep_late(case: Case, number: int, seen: str) -> None:
    """Write down what came too late to count: in the audit log, and changing no state. A store that is
    away is waited for; what could not be kept is at least in the log."""
    event = case.event("action.late", observed=seen, number=number)
    for _ in range(_PERSISTENCE):
        try:
            await case.tools.store.evidence(case.run.id, number, (event,))
            return
        except StoreError as error:
            why = str(error)
            if not isinstance(error, StoreUnavailable) or case.tools.store.fatal is not None:
                break
        await asyncio.sleep(1)
    log.warning("late_outcome.lost", run=case.run.id, seen=seen, error=why)
