"""REVERTING: undo what the remedies did, last first; and put back what a lease had borrowed."""

from __future__ import annotations

from typing import Any

import msgspec

from remediator.contracts import Action, NewEffect, Nothing, Observed
from remediator.engine.case import Case
from remediator.engine.execute import pure
from remediator.engine.states.acting import unknown
from remediator.engine.states.returning import returned, returning
from remediator.engine.states.settling import ask, too_late
from remediator.engine.step import NO_EXTRA, Admit, End, Extra, Go, Later, Step, Wait
from remediator.errors import ActionError, Refused
from remediator.model import (
    Instant,
    Intent,
    IntentKind,
    IntentOutcome,
    Origin,
    Outcome,
    Plan,
    Progress,
    Reason,
    State,
)


async def reverting(case: Case) -> Step:
    """One undo at a time, each an intent of its own; a person's change in between is left alone."""
    pending = case.pending
    if pending is not None and pending.kind is not IntentKind.APPLY:
        action = case.action(pending.plan.action)
        why = "the daemon stopped between intent and outcome"
        return unknown(case, pending, why, Instant(case.now + action.landing_time))
    if case.progress.settle_until is not None:
        return await _settled(case)
    if case.run.origin is Origin.LEASE:
        return await returning(case)
    if not case.progress.todo:
        return _over(case)
    intent = case.intent(case.progress.todo[0])
    action = case.action(intent.plan.action)
    try:
        params = pure(action.name, lambda: action.params.model_validate(intent.plan.params))
        observed = await case.tools.execute.observe(action, params, case.now, case.episode)
        plan = _undo(action, observed, intent.plan)
    except Refused as error:
        event = case.event("action.revert_skipped", error.reason, str(error), number=intent.number)
        return Go(State.REVERTING, _next(case.progress, skipped=str(error)), (event,))
    except ActionError as error:
        return Wait(Reason.CHECK_UNANSWERED, str(error), f"{action.name} can observe its target")
    if isinstance(plan, Nothing):
        event = case.event("action.revert_skipped", Reason.NOTHING_TO_DO, plan.why, number=intent.number)
        return Go(State.REVERTING, _next(case.progress), (event,))
    progress = msgspec.structs.replace(case.progress, number=case.progress.number + 1)
    return Admit(plan, IntentKind.REVERT, counted=True, progress=progress)


async def _settled(case: Case) -> Step:
    intent = _last_back(case)
    answer = await ask(case, intent)
    if isinstance(answer, Later):
        return answer
    if not answer.done:
        return End(
            Outcome.ESCALATED,
            too_late(case),
            observed=answer.failed,
            allowed=f"{intent.plan.action} settles",
            note="going back did not settle",
        )
    if case.run.origin is Origin.LEASE:
        return await returned(case)
    event = case.event("action.settled", number=intent.number, detail=answer.detail)
    extra = await _leases_closed(case, case.intent(case.progress.todo[0]), intent)
    return Go(State.REVERTING, _next(case.progress), (event,), extra)


async def _leases_closed(case: Case, done: Intent, undone: Intent) -> Extra:
    """What was undone needs no lease. One that was inherited from an earlier run goes on, with its
    own, older prior value."""
    extra = NO_EXTRA
    for effect in await case.tools.store.effects(open=True):
        if effect.run != case.run.id or effect.target.key != done.plan.target.key:
            continue
        if effect.field not in done.plan.after:
            continue  # another action of this run lent it
        if effect.prior == done.plan.before.get(effect.field):
            extra += Extra(effect_done=((effect.id, "reverted"),))
            continue
        inherited = NewEffect(
            field=effect.field,
            prior=effect.prior,
            current=undone.plan.after.get(effect.field),
            plan=effect.plan,
            expires_at=effect.expires_at,
        )
        extra += Extra(effects=(inherited,))
    return extra


def _over(case: Case) -> End:
    went_back = any(
        intent.kind is IntentKind.REVERT and intent.outcome is IntentOutcome.APPLIED
        for intent in case.intents
    )
    return End(
        Outcome.REVERTED if went_back else Outcome.ESCALATED,
        case.progress.failure or Reason.NOT_HEALED,
        observed=case.progress.failure_note or "the remedies did not heal",
        allowed="a remedy that heals",
        note="what was done was undone" if went_back else "nothing could be undone",
    )


def _last_back(case: Case) -> Intent:
    return next(intent for intent in reversed(case.intents) if intent.kind is not IntentKind.APPLY)


def _undo(action: Action[Any], observed: Observed, plan: Plan) -> Plan | Nothing:
    return pure(action.name, lambda: action.undo(observed, plan))


def _next(progress: Progress, skipped: str = "") -> Progress:
    note = f"{progress.failure_note}; not undone: {skipped}" if skipped else progress.failure_note
    return msgspec.structs.replace(
        progress,
        todo=progress.todo[1:],
        settle_until=None,
        waiting_since=None,
        attempts=0,
        failure_note=note,
    )
