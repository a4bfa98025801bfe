"""Who may approve what: levels of authority after the runbooks, as settings map them to roles. Pure."""

from __future__ import annotations

from remediator.errors import NotAllowed
from remediator.model import Approval, Decision, Risk, Severity
from remediator.policy import glob
from remediator.settings import Approvals, Role

LEVEL = {Risk.READ: 1, Risk.REVERSIBLE: 1, Risk.DISRUPTIVE: 2, Risk.DESTRUCTIVE: 3}
"""The level of an action that settings do not name."""


def level(rules: Approvals, action: str, risk: Risk, severity: Severity) -> int:
    """The level of authority that an action needs under a policy of this severity."""
    named = [found for pattern, found in rules.actions.items() if glob.matches(pattern, action)]
    return max(max(named, default=LEVEL[risk]), rules.severities.get(severity, 1))


def needed(rules: Approvals, level: int, role: str | None) -> Role:
    """The lowest role that may approve: the policy's own, or the level's if that is higher."""
    roles = [rules.levels[level], *([Role(role)] if role else [])]
    return max(roles, key=lambda one: one.rank)


def refuse(
    rules: Approvals, asked: Approval, name: str, role: Role, decision: Decision = Decision.APPROVED
) -> None:
    """Let through whoever may decide so. Whoever started a run by hand may still take it back: a second
    pair of eyes is for what is done, not for what is left undone.

    Raises:
        NotAllowed: names who, what, and what it would take.
    """
    what = f"{asked.plan.action} on {asked.plan.target.name}"
    if role.rank < Role(asked.role).rank:
        raise NotAllowed(f"{name} is {role}; approving {what} needs the role {asked.role} or a higher one")
    if rules.four_eyes and asked.started_by == name and decision is Decision.APPROVED:
        raise NotAllowed(
            f"{name} has started run {asked.run} by hand; approving {what} needs somebody else "
            "(approvals.four_eyes in settings)"
        )
