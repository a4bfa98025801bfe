"""Asks people before a run acts: what the whole action would do, at the worst, and who may say yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from remediator.contracts import Action, Nothing, Observed, Params
from remediator.engine.authority import level, needed
from remediator.engine.bounds import bounds
from remediator.engine.case import Case
from remediator.engine.coverage import uncovered
from remediator.engine.execute import pure
from remediator.engine.look import evidence
from remediator.engine.states.admit import admission, intent
from remediator.engine.step import NO_EXTRA, Admit, Extra, Later, Wait
from remediator.errors import ActionError
from remediator.model import (
    MINUTE,
    Approval,
    Decision,
    Instant,
    IntentKind,
    Message,
    Millis,
    Origin,
    Plan,
    Reason,
    State,
    flat,
    moment,
    span,
)
from remediator.notify import text

EXPIRES = Millis(15 * MINUTE)
"""How long a question stands where the policy does not say."""
_FORESEEN = 100
"""Steps that are foreseen at most; no action has as many."""


async def approved(
    case: Case,
    action: Action[Any],
    observed: Observed,
    params: Params,
    plan: Plan,
    names: tuple[str, ...],
    looked_up: dict[str, Any],
) -> Approval | Later | Wait:
    """The approval that this plan rests on, or the question to people, or the budget or cooldown that would
    hold what they approve: nobody is asked before it is free.

    Args:
        names: every one of the target's.
        looked_up: the policy's evidence, if it was looked up already.
    """
    store = case.tools.store
    found = await store.approvals(run=case.run.id, limit=1)
    answer, why = granted(case, plan, found, await store.now())
    if answer is not None:
        return answer
    step = Admit(plan, IntentKind.APPLY, counted=not case.done_here, progress=case.progress, names=names)
    full = await store.full(case.run, admission(case, step, intent(case, step), (), NO_EXTRA))
    if full is not None:
        return Wait(full.reason, full.observed, full.allowed, until=full.until)
    whole = foreseen(case, action, observed, params, plan)
    return await ask(case, action, whole, looked_up or await evidence(case), why)


def granted(case: Case, plan: Plan, found: Sequence[Approval], now: Instant) -> tuple[Approval | None, str]:
    """The approval that lets this run carry out this plan; else why the one it has does not.

    Args:
        found: the run's approvals, newest first. Only the newest counts: it replaced the others.
    """
    place = (case.progress.rung, case.progress.step)
    if not found or (found[0].rung, found[0].step) != place:
        return None, ""
    latest = found[0]
    if latest.decision is not Decision.APPROVED:
        return None, ""
    over = latest.unusable(now)
    if over and not case.done_here:
        return None, f"approval {latest.id}: {over}"
    why = uncovered(latest.plan, plan, [intent.plan for intent in case.done_here])
    return (None, f"approval {latest.id} does not cover it: {why}") if why else (latest, "")


def foreseen(
    case: Case, action: Action[Any], observed: Observed, params: Params, first: Plan
) -> tuple[Plan, int]:
    """The action from its first call to its last, as one plan, and how many calls that is.

    Steps and chunks follow one after another; what they will be is foreseen by planning on what the former
    would leave. An action that cannot be foreseen is asked for call by call.
    """
    plans = [first]
    done = [intent.plan for intent in case.done_here]
    while plans[-1].more and len(plans) < _FORESEEN:
        left = msgspec.structs.replace(observed, fields={**observed.fields, **plans[-1].after})
        try:
            # Called at once, so the late binding of the loop's names is none.
            ahead = pure(action.name, lambda: action.plan(left, params, (*done, *plans)))  # noqa: B023
        except ActionError:
            break
        total = sum(plan.blast.amount for plan in (*done, *plans))
        if isinstance(ahead, Nothing):
            break
        bound = msgspec.structs.replace(ahead.blast, amount=ahead.blast.amount + total)
        if not bounds(case).blast_radius.allows(bound):
            break
        plans.append(ahead)
    amount = sum(plan.blast.amount for plan in plans)
    blast = msgspec.structs.replace(first.blast, amount=amount)
    # Without detail: people approve what is done to what, and the guards choose the sessions anew.
    made = msgspec.structs.replace(first, after=plans[-1].after, blast=blast, more=False, detail={})
    return made, len(plans)


async def ask(
    case: Case, action: Action[Any], whole: tuple[Plan, int], looked_up: dict[str, Any], again: str
) -> Later:
    """The question, with the message to people; the run waits for its answer.

    Args:
        looked_up: the policy's evidence.
        again: why a former approval does not stand for this plan.
    """
    plan, steps = whole
    rules = case.tools.approvals
    own = case.policy.approval
    rank = level(rules.rules, action.name, action.risk, case.policy.severity)
    now = await case.tools.store.now()
    number = await case.tools.store.approval_number()
    asked = Approval(
        id=number,
        run=case.run.id,
        plan=plan,
        role=needed(rules.rules, rank, own.role if own is not None else None),
        asked_at=now,
        expires_at=Instant(now + (own.expires if own is not None else EXPIRES)),
        rung=case.progress.rung,
        step=case.progress.step,
        steps=steps,
        started_by=_starter(case),
        data={
            "policy": case.policy.name,
            "description": case.policy.description,
            "severity": str(case.policy.severity),
            "runbook": case.policy.runbook,
            "level": rank,
            "worst_case": worst_case(case, action, plan),
            "evidence": looked_up,
            "again": again,
        },
    )
    observed, allowed = pending(asked)
    event = case.event(
        "approval.asked",
        observed=f"{plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}",
        allowed=f"approved by {asked.role} or a higher role until {moment(asked.expires_at)}",
        approval=number,
        action=plan.action,
        blast={"amount": plan.blast.amount, "whole": plan.blast.whole, "unit": plan.blast.unit},
        role=asked.role,
        level=rank,
        note=again,
    )
    return Later(
        State.APPROVAL,
        asked.expires_at,
        msgspec.structs.replace(case.progress, waiting_since=None, attempts=0),
        events=(event,),
        reason=Reason.APPROVAL_PENDING,
        observed=observed,
        allowed=allowed,
        extra=Extra(ask=asked, messages=(message(case, asked),)),
    )


def pending(asked: Approval) -> tuple[str, str]:
    """What a run that waits for this answer shows as seen, and as wanted."""
    return f"approval {asked.id} is not decided", f"approved by {asked.role} or a higher role"


def worst_case(case: Case, action: Action[Any], plan: Plan) -> str:
    """What it comes to if it goes wrong: how much is touched, and whether it comes back."""
    of = f" of {plan.blast.whole:g}" if plan.blast.whole is not None else ""
    share = f" ({plan.blast.amount / plan.blast.whole:.0%})" if plan.blast.whole else ""
    parts = [f"{plan.blast.amount:g}{of} {plan.blast.unit}{share} are touched"]
    expires = case.remedy.expires
    if action.irreversible is not None:
        parts.append(f"it cannot be undone: {action.irreversible}")
    elif expires is not None:
        parts.append(f"it goes back by itself after {span(expires)}")
    elif case.policy.on_failure == "revert":
        parts.append("it is put back if it does not help")
    else:
        parts.append("it stays until a person puts it back")
    return "; ".join(parts)


def message(case: Case, asked: Approval) -> Message:
    """What people are told: the plan, the link, and the commands that do the same."""
    plan, data = asked.plan, asked.data
    alert = case.episode.alert
    link = case.tools.approvals.links.url(asked.id, asked.expires_at)
    lines = [
        f"Alert: {alert.labels.get('alertname', 'unknown')} from {alert.sender}, {alert.status}",
        f"Plan: {plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}",
        f"Worst case: {data['worst_case']}",
        f"Who may: {asked.role} or a higher role, until {moment(asked.expires_at)}; after that it is refused",
    ]
    if data["again"]:
        lines.append(f"Asked again: {data['again']}")
    if link:
        lines.append(f"Decide: {link}")
    approve, reject = commands(asked)
    lines += [f"Approve: {approve}", f"Reject: {reject}"]
    return Message(
        chain=case.policy.escalate or "",
        severity=case.policy.severity,
        subject=f"[{case.policy.severity}] Approve? {plan.action} on {plan.target.name} ({case.policy.name})",
        body=text.lines(lines),
        run=case.run.id,
        alert=case.run.alert,
    )


def commands(asked: Approval) -> tuple[str, str]:
    """The command lines that approve and reject this very question."""
    rest = f'{asked.run} --approval {asked.id} --comment "…"'
    return f"remediator runs approve {rest}", f"remediator runs reject {rest}"


def _starter(case: Case) -> str:
    return case.episode.alert.annotations.get("actor", "") if case.run.origin is Origin.HAND else ""
