"""ADMIT: gathers what the store re-checks and writes in its one transaction, and reads its answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog

from remediator.contracts import ALWAYS, Admission, Held, Limit, Move, Surge
from remediator.engine.bounds import bounds
from remediator.engine.case import Case
from remediator.engine.escalation import ahead
from remediator.engine.states.guards import flapping
from remediator.engine.step import Admit, End, Extra, Wait
from remediator.engine.windows import slot
from remediator.errors import LeaseLost, StoreUnavailable
from remediator.model import (
    SECOND,
    AuditEvent,
    Instant,
    Intent,
    IntentKind,
    Millis,
    Outcome,
    Reason,
    Run,
    State,
    flat,
    token,
)

log = structlog.get_logger()

LEASE = Millis(30 * SECOND)
_AT_ONCE = {
    Reason.QUARANTINED: Outcome.REFUSED,
    Reason.FLAPPING: Outcome.REFUSED,
    Reason.ALERT_RESOLVED: Outcome.CANCELLED,
}


def limits(case: Case, names: Collection[str]) -> tuple[Limit, ...]:
    """Every budget that this action must fit, in the order in which the counters are locked."""
    everyone = case.active.limits
    own = bounds(case)
    found = [Limit(scope="global", budget=budget, source="limits.yaml global") for budget in everyone.budget]
    found += [Limit(scope="policy", budget=budget, source="limits.budget") for budget in own.budget]
    found += [Limit(scope="target", budget=budget, source="limits.per_target") for budget in own.per_target]
    for entry in everyone.targets:
        if any(map(entry.covers, names)):
            found += [
                Limit(scope="target", budget=budget, source=f"limits.yaml targets {entry.match}")
                for budget in entry.budget
            ]
    return tuple(found)


def intent(case: Case, step: Admit) -> Intent:
    """The durable permission to call once."""
    number = case.progress.number
    return Intent(
        run=case.run.id,
        number=number,
        kind=step.kind,
        policy=case.run.policy,
        plan=step.plan,
        token=token(case.run.policy, case.episode.alert, number, step.purpose),
        nonce=case.tools.nonce(),
        rung=case.progress.rung,
        step=case.progress.step,
        created_at=case.now,
        counted=step.counted,
    )


def admission(
    case: Case, step: Admit, wanted: Intent, events: tuple[AuditEvent, ...], extra: Extra
) -> Admission:
    """What ADMIT must hold true. A revert or a return obeys pause and quarantine only."""
    going_back = step.kind is not IntentKind.APPLY
    plan = step.plan
    own = bounds(case)
    resting: dict[str, Any] = {} if step.approval is None else {"approval": step.approval}
    event = case.event(
        "run.admitted",
        observed=f"{plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}",
        action=plan.action,
        intent=str(step.kind),
        number=wanted.number,
        blast={"amount": plan.blast.amount, "whole": plan.blast.whole, "unit": plan.blast.unit},
        note=plan.note,
        **resting,
    )
    return Admission(
        intent=wanted,
        move=Move(
            state=State.REVERTING if going_back else State.ACTING,
            next_at=Instant(case.now + LEASE),
            progress=step.progress,
            events=(*events, *step.events, event),
            intents=extra.intents,
            effects=extra.effects,
            controls=extra.controls,
            incident=ahead(case, plan.target.key),
        ),
        limits=() if going_back else limits(case, (plan.target.name, *step.names)),
        cooldown=Millis(0) if going_back else own.cooldown,
        concurrent_policy=own.concurrent,
        concurrent_global=case.active.limits.concurrent,
        policy_set=case.active.hash,
        need_firing=not (case.admitted or case.by_hand or going_back),
        leases=step.leases,
        slot=ALWAYS if going_back else slot(case, (plan.target.name, *step.names)),
        mode=step.mode,
        begun=case.admitted,
        approval=step.approval,
        storm=None if going_back else _surge(case),
        flapping=None if going_back else flapping(case),
    )


def _surge(case: Case) -> Surge:
    rule, sender = case.active.limits.storm, case.episode.alert.sender
    return Surge(sender=sender, new_alerts=rule.new_alerts, within=rule.within)


def held(case: Case, answer: Held) -> Wait | End:
    """What a refusal of ADMIT means for the run: most brakes are waits."""
    outcome = _AT_ONCE.get(answer.reason)
    if outcome is not None:
        return End(outcome, answer.reason, answer.observed, answer.allowed)
    return Wait(answer.reason, answer.observed, answer.allowed, until=answer.until)


async def admit(
    case: Case, step: Admit, events: tuple[AuditEvent, ...], extra: Extra
) -> tuple[Run, Intent] | Held:
    """Ask the store. On a Run, the intent is durable and this process alone may call."""
    wanted = intent(case, step)
    try:
        answer = await case.tools.store.admit(case.run, admission(case, step, wanted, events, extra))
    except StoreUnavailable as error:
        log.warning("admit.unanswered", run=case.run.id, error=str(error))
        return await _written(case, wanted, error), wanted
    if isinstance(answer, Held):
        return answer
    return answer, wanted


async def _written(case: Case, wanted: Intent, error: StoreUnavailable) -> Run:
    """The run, if its intent was written although the commit's own answer was lost.

    Raises:
        StoreUnavailable: it was not, or that cannot be said: this process does not call.
        LeaseLost: another worker has the run by now.
    """
    store = case.tools.store
    if not any(intent.nonce == wanted.nonce for intent in await store.intents(case.run.id)):
        raise error
    run = await store.run(case.run.id)
    if run.epoch != case.run.epoch:
        raise LeaseLost(f"run {run.id}: epoch {case.run.epoch} is no longer its own; drop it") from error
    return run
