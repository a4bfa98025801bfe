"""GUARD: ask the brakes and the live checks, observe the target, and plan within the bounds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec

from remediator.contracts import Action, Nothing, Observed, Params
from remediator.engine.asking import approved
from remediator.engine.bounds import bounds
from remediator.engine.case import Case
from remediator.engine.execute import pure
from remediator.engine.ladder import action_finished, nothing_here
from remediator.engine.look import evidence
from remediator.engine.mode import demotion, effective_mode
from remediator.engine.pipeline import stopped
from remediator.engine.step import Admit, End, Later, Step, Wait
from remediator.engine.windows import all_names, closed
from remediator.errors import Permanent, Temporary
from remediator.model import IntentKind, Mode, Outcome, Plan, Reason, flat


async def guard(case: Case) -> Step:
    """Proceed to ADMIT, or say why not.

    Raises:
        Refused: a bound, a label, a parameter, a connection.
    """
    step = await stopped(case)
    if step is not None:
        return step
    action = case.action(case.use.action)
    params = case.params(action)
    try:
        observed = await case.tools.execute.observe(action, params, case.now, case.episode)
    except Temporary as error:
        return Wait(Reason.CHECK_UNANSWERED, str(error), f"{action.name} can observe its target")
    except Permanent as error:
        return End(Outcome.REFUSED, Reason.MISSING_TARGET, str(error), "a target that can be observed")
    plan = _plan(case, action, observed, params)
    if isinstance(plan, Nothing):
        return nothing_here(case, plan.why)
    too_much = beyond(case, plan)
    if too_much is not None:
        return enough(case, too_much) if case.done_here and case.policy.verify else too_much
    names = await all_names(case, plan)
    mode = effective_mode(case, names)
    shut = None if mode is Mode.OBSERVE else closed(case, names)
    if shut is not None:
        return shut
    looked_up = await evidence(case) if not case.admitted else {}
    if mode is Mode.OBSERVE:
        return await observed_only(case, plan, names, looked_up)
    events = (case.event("evidence.gathered", **looked_up),) if looked_up else ()
    approval: int | None = None
    if mode is Mode.APPROVE:
        answer = await approved(case, action, observed, params, plan, names, looked_up)
        if isinstance(answer, Wait):
            return answer
        if isinstance(answer, Later):
            return replace(answer, events=(*events, *answer.events))
        approval = answer.id
    progress = msgspec.structs.replace(
        case.progress, number=case.progress.number + 1, asked=case.progress.asked or approval is not None
    )
    return Admit(
        plan,
        IntentKind.APPLY,
        counted=not case.done_here,
        progress=progress,
        events=events,
        names=names,
        mode=mode,
        approval=approval,
    )


def _plan(case: Case, action: Action[Any], observed: Observed, params: Params) -> Plan | Nothing:
    done = tuple(intent.plan for intent in case.done_here)
    return pure(action.name, lambda: action.plan(observed, params, done))


def beyond(case: Case, plan: Plan) -> End | None:
    """The refusal of a plan that touches more than `limits.blast_radius`, chunks and steps added up.

    A share of something whose size is not known cannot be bounded, so it is refused.
    """
    limit = bounds(case).blast_radius
    amount = plan.blast.amount + sum(intent.plan.blast.amount for intent in case.done_here)
    total = msgspec.structs.replace(plan.blast, amount=amount)
    if limit.allows(total):
        return None
    of = f"{total.whole:g}" if total.whole is not None else "an unknown whole"
    return End(
        Outcome.REFUSED,
        Reason.BLAST_RADIUS,
        observed=f"{amount:g} of {of} {total.unit}",
        allowed=f"limits.blast_radius {limit}",
        data={"plan": msgspec.to_builtins(plan)},
    )


def enough(case: Case, end: End) -> Step:
    """The bound is reached half-way: the action is over, and verify says whether it was enough."""
    event = case.event("action.bounded", end.reason, end.observed, end.allowed, action=case.use.action)
    return action_finished(case, more=False, events=(event,))


async def observed_only(case: Case, plan: Plan, names: Collection[str], looked_up: dict[str, Any]) -> End:
    """Mode observe: end with the plan that would have run, and what the budget would have said."""
    shadow: list[str] = []
    for budget in case.policy.limits.budget:
        since = type(case.now)(case.now - budget.window)
        count = await case.tools.store.shadow_count(case.run.policy, since)
        if count >= budget.count:
            shadow.append(f"{count} observed, allowed {budget}")
    demoted = demotion(case, names)
    would = f"would run {plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}"
    return End(
        Outcome.OBSERVED,
        Reason.PLANNED_ONLY if demoted is None else demoted.reason,
        observed=would if demoted is None else f"{would}; {demoted.observed}",
        allowed="mode observe plans and records" if demoted is None else demoted.allowed,
        data={
            "plan": msgspec.to_builtins(plan),
            "over_budget": shadow,
            **({"evidence": looked_up} if looked_up else {}),
        },
    )
