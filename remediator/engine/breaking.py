"""The policy breaker: a policy that does not heal loses its licence until a person restores it. Pure."""

from __future__ import annotations

from remediator.contracts import Breaker
from remediator.engine.case import Case
from remediator.engine.step import End
from remediator.model import AuditEvent, Control, ControlKind, Message, Origin, Outcome, Reason

INEFFECTIVE = frozenset({Outcome.REVERTED, Outcome.ESCALATED})
"""What counts against a policy: it tried, and what it did was taken back, or a person had to take over,
for whatever reason. Not what was refused or cancelled before anything was done."""


def breaker(case: Case, end: End) -> Breaker | None:
    """What opens with this ending, if the runs before it ended no better. The end of a lease says nothing
    about a policy's remedies."""
    rule = case.active.limits.breaker
    if end.outcome not in INEFFECTIVE or case.run.origin is Origin.LEASE:
        return None
    policy = case.run.policy
    seen = f"{rule.ineffective} runs in a row did not heal"
    restore = f"remediator policies restore {policy} --comment …"
    data = {
        "policy": policy,
        "demote_to": rule.demote_to,
        "ineffective": rule.ineffective,
        "run": case.run.id,
    }
    does = "only plans" if rule.demote_to == "observe" else "asks a person each time"
    return Breaker(
        ineffective=rule.ineffective,
        control=Control(
            kind=ControlKind.BREAKER,
            scope=f"policy:{policy}",
            reason=seen,
            actor="daemon",
            since=case.now,
            data=data,
        ),
        event=AuditEvent(
            kind="breaker.tripped",
            run=case.run.id,
            policy=policy,
            reason=Reason.BREAKER,
            observed=seen,
            allowed=f"fewer than {rule.ineffective}",
            data=data,
        ),
        messages=(
            Message(
                chain=case.policy.escalate or "",
                severity=case.policy.severity,
                subject=f"[{case.policy.severity}] policy {policy} is demoted to {rule.demote_to}: {seen}",
                body=(
                    f"Seen: {seen}; run {case.run.id} is the last: {end.outcome}: {end.observed}\n"
                    f"Done: policy {policy} {does} from now on\n"
                    f"When it is fit again: {restore}\n"
                    f"Look: remediator runs list --policy {policy}"
                ),
            ),
        ),
    )
