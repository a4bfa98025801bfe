"""Who may approve what, and the key of the links that people are sent."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from remediator.model import DAY, MINUTE, Millis, Severity
from remediator.settings.roles import Role
from remediator.settings.values import Credential, Duration, Section

LEVELS = {1: Role.OPERATOR, 2: Role.MANAGER, 3: Role.LEAD, 4: Role.ADMIN}
SEVERITIES = {Severity.P1: 3}

Level = Annotated[int, Field(ge=1, le=4)]


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _levels(levels: dict[int, Role]) -> dict[int, Role]:
    """The built-in levels with these over them."""
    whole = {**LEVELS, **levels}
    for level, role in whole.items():
        if role.rank < Role.OPERATOR.rank:
            raise ValueError(
                f"level {level}: the role {role} only reads; who approves is an operator at least"
            )
        if level > 1 and role.rank < whole[level - 1].rank:
            below = whole[level - 1]
            raise ValueError(
                f"level {level} needs {role}, and level {level - 1}, which allows less, needs {below}; "
                "a higher level needs the same role or a higher one"
            )
    return whole


class Approvals(Section):
    """Approvals: who may give them. What an action needs is a level of authority, after the runbooks:
    1 restart and clear caches, 2 deploy and configure, 3 emergency actions and what customers notice,
    4 whatever has consequences for the business."""

    levels: Annotated[dict[Level, Role], AfterValidator(_levels)] = LEVELS
    """Level to the lowest role that has it. What is left out is 1 operator, 2 manager, 3 lead, 4 admin."""
    actions: dict[str, Level] = {}
    """Level of actions by name, `*` and `?` stand for any text; the highest that fits counts. Others have
    that of their risk: read and reversible 1, disruptive 2, destructive 3."""
    severities: dict[Severity, Level] = SEVERITIES
    """The least level for policies of a severity. Unless given, P1 needs level 3 and the others no more
    than their action does."""
    four_eyes: bool = True
    """Whoever started a run by hand may not approve it."""
    link_key: Annotated[tuple[Credential, ...], BeforeValidator(_one_or_many)] = ()
    """Key of the signed links, at least 16 characters, given as ${NAME}; a list to rotate: the first signs,
    all are accepted. Without one, messages hold no link and the page cannot be opened."""
    session: Annotated[Duration, Field(ge=MINUTE, le=DAY)] = Millis(15 * MINUTE)
    """How long a person stays logged in to the page; at most a day."""

    @model_validator(mode="after")
    def _globs(self) -> Self:
        for glob in self.actions:
            if not glob.strip():
                raise ValueError("actions: a name must not be empty; write for example postgres.*")
        return self
