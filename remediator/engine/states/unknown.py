"""UNKNOWN: a call whose outcome is not certain. Once it can no longer land late, look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remediator.contracts import Action
from remediator.engine.case import Case
from remediator.engine.execute import pure
from remediator.engine.states.acting import applied
from remediator.engine.states.guards import not_quarantined, paused
from remediator.engine.step import End, Extra, Go, Later, Reissue, Step, Wait
from remediator.errors import ActionError, Braked, Refused
from remediator.model import Control, ControlKind, Intent, IntentOutcome, Landed, Outcome, Reason, State


async def unknown(case: Case) -> Step:
    """Applied: carry on. Provably not, and the provider deduplicates: call again with the same
    token, unless a pause holds it. Anything else: quarantine the target and call a person."""
    intent = case.pending
    if intent is None:
        return Go(State.GUARD, case.progress)
    action = case.action(intent.plan.action)
    try:
        params = pure(action.name, lambda: action.params.model_validate(intent.plan.params))
        observed = await case.tools.execute.observe(action, params, case.now, case.episode)
        landed = pure(action.name, lambda: action.landed(observed, intent.plan))
    except Refused as error:
        return quarantine(case, intent, str(error))
    except ActionError as error:
        return Wait(Reason.ACTION_UNKNOWN, f"not observed: {error}", "an observation that decides")
    if landed is Landed.APPLIED:
        event = case.event("action.reconciled", observed="it was applied", number=intent.number)
        step = applied(case, intent, {"reconciled": True}, case.now)
        return Later(step.state, step.next_at, step.progress, (event, *step.events), extra=step.extra)
    if landed is Landed.NOT_APPLIED and may_reissue(action, intent, case):
        store, target = case.tools.store, intent.plan.target
        names = (target.name, target.key, *await store.names(target.key))
        case = replace(case, controls=tuple(await store.controls()))  # the look may have taken a while
        braked = await not_quarantined(case) or paused(case, names)
        if braked is not None:
            return braked if isinstance(braked, Wait) else quarantine(case, intent, "it was not applied")
        event = case.event(
            "action.reconciled",
            observed="it was not applied; the provider deduplicates: issued again with its token",
            number=intent.number,
        )
        return Reissue(intent, (event,))
    return quarantine(
        case, intent, "observation shows " + ("no effect" if landed is Landed.NOT_APPLIED else "neither")
    )


def may_reissue(action: Action[Any], intent: Intent, case: Case) -> bool:
    """Only where a second call cannot act twice: a token still valid, or a conditional call. And not
    for ever: a call whose answer is lost each time, or that is older than any wait may be, is a
    person's."""
    idempotency = action.idempotency
    age = case.now - intent.created_at
    if not idempotency.reissuable or age >= case.policy.give_up + action.landing_time:
        return False
    return idempotency.kind == "conditional" or age < idempotency.valid


def braked(case: Case, intent: Intent, brake: Braked) -> Wait | End:
    """What a brake that was set after the look means for the call: as if the look had met it."""
    if brake.reason is Reason.QUARANTINED:
        return quarantine(case, intent, f"it was not applied, and {brake}")
    return Wait(brake.reason, brake.observed, brake.allowed, until=brake.until)


def quarantine(case: Case, intent: Intent, seen: str) -> End:
    """Leave the target, and its lock, to a person."""
    target = intent.plan.target
    do = f"look at it, then: remediator targets clear {target.name} --comment …"
    control = Control(
        kind=ControlKind.QUARANTINE,
        scope=f"target:{target.key}",
        reason=f"run {case.run.id}: outcome of {intent.plan.action} unknown: {seen}",
        actor="daemon",
        since=case.now,
        data={"run": case.run.id, "number": intent.number, "target": target.name},
    )
    return End(
        Outcome.ESCALATED,
        Reason.ACTION_UNKNOWN,
        observed=seen,
        allowed="a certain outcome",
        note=f"{target.name} is quarantined; {do}",
        events=(case.event("target.quarantined", Reason.ACTION_UNKNOWN, seen, number=intent.number),),
        extra=Extra(controls=(control,), intents=()),
        data={"outcome": str(IntentOutcome.UNKNOWN)},
    )
