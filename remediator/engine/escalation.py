"""Which endings call a person, and what the message says. Pure."""

from __future__ import annotations

from remediator.engine.case import Case
from remediator.engine.step import End
from remediator.model import Message, Mode, Origin, Outcome, Reason, flat

CALLING = frozenset({Outcome.REFUSED, Outcome.NOTHING_TO_DO, Outcome.REVERTED, Outcome.ESCALATED})


def messages(case: Case, end: End) -> tuple[Message, ...]:
    """The message for this ending; none where the policy only observes, or a lease simply ended."""
    if end.outcome not in CALLING or case.run.mode is Mode.OBSERVE:
        return ()
    if case.run.origin is Origin.LEASE and end.outcome is not Outcome.ESCALATED:
        return ()
    target = case.run.target or "an unnamed target"
    return (
        Message(
            chain=case.policy.escalate or "",
            severity=case.policy.severity,
            subject=f"[{case.policy.severity}] {case.run.policy} on {target}: {end.outcome}",
            body=_body(case, end, target),
            run=case.run.id,
            alert=case.run.alert,
        ),
    )


def _body(case: Case, end: End, target: str) -> str:
    alert = case.episode.alert
    lines = [
        f"Alert: {alert.labels.get('alertname', 'unknown')} from {alert.sender}, {alert.status}",
        f"Target: {target}",
        f"Outcome: {end.outcome}" + (f", because {end.reason}" if end.reason else ""),
        f"Seen: {end.observed or 'unknown'}",
        f"Wanted: {end.allowed or 'unknown'}",
    ]
    done = [case.intent(number).plan for number in case.progress.applied]
    for plan in done:
        lines.append(f"Done: {plan.action} on {plan.target.name}: {flat(plan.before)} → {flat(plan.after)}")
    if case.pending is not None and end.reason is Reason.ACTION_UNKNOWN:
        plan = case.pending.plan
        lines.append(
            f"Not known whether it was done: {plan.action} on {plan.target.name}: "
            f"{flat(plan.before)} → {flat(plan.after)}"
        )
    elif not done:
        lines.append("Done: nothing was changed")
    if end.note:
        lines.append(f"Note: {end.note}")
    if case.policy.runbook:
        lines.append(f"Runbook: {case.policy.runbook}")
    lines.append(f"Look: remediator runs show {case.run.id}")
    return "\n".join(lines)
