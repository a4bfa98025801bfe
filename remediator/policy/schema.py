"""The policy file as pydantic models: they are the schema, its documentation and its validation.

Inside the package a policy is these frozen values; `from`, `for`, `with` and `is` are `from_`,
`for_`, `with_` and `is_`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from remediator.contracts import Catalogue
from remediator.model import DAY, HOUR, MINUTE, SECOND, Budget, Millis, Mode, Severity
from remediator.policy.comparison import Comparison
from remediator.policy.fields import (
    BlastRadius,
    BlastRadiusField,
    BudgetField,
    ComparisonField,
    Count,
    Duration,
    Frozen,
    MatcherField,
    Name,
    Positive,
    Remembered,
)
from remediator.policy.template import With
from remediator.settings import Role

__all__ = [
    "ActionUse", "Approval", "BlastRadius", "CheckUse", "Comparison", "Limits", "Policy", "Remedy", "Verify",
]  # fmt: skip

Parameters = Annotated[dict[str, Any], AfterValidator(With)]
_CHECK: Any = Field(description="The check's name, as `remediator checks` lists it.")
_WITH: Any = Field(
    alias="with", default_factory=With, description="Parameters; labels only where a selector stands."
)


class CheckUse(Frozen):
    """A check, its parameters, and what its value must be."""

    check: str = _CHECK
    with_: Parameters = _WITH
    is_: ComparisonField | None = Field(
        default=None,
        alias="is",
        description='What the value must be, quoted: `"> 50"`, `"< 5%"`, `"< 500ms"`.',
    )


class ActionUse(Frozen):
    """An action and its parameters."""

    action: str = Field(description="The action's name, as `remediator actions` lists it.")
    with_: Parameters = _WITH


class Remedy(Frozen):
    """One rung of the ladder: one action, or several steps done in order."""

    action: str | None = Field(
        default=None, description="The action's name, as `remediator actions` lists it."
    )
    with_: Parameters = _WITH
    steps: tuple[ActionUse, ...] = Field(
        default=(), max_length=20, description="Actions done in order; the first failure ends the rung."
    )
    when: tuple[CheckUse, ...] = Field(
        default=(), max_length=20, description="Live checks of this rung; a rung not taken is recorded."
    )
    expires: Positive | None = Field(
        default=None, description="A lease: after this the prior state comes back."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.action is None) == (not self.steps):
            raise ValueError("a remedy has either `action:` (with `with:`) or `steps:`, exactly one of them")
        if self.steps and self.with_:
            raise ValueError("`with:` belongs to each step, not beside `steps:`")
        _need_comparison(self.when, "when")
        return self

    @cached_property
    def actions(self) -> tuple[ActionUse, ...]:
        """What the rung does, in order."""
        if self.action is None:
            return self.steps
        return (ActionUse(action=self.action, with_=self.with_),)


class Limits(Frozen):
    """How often, how many at once and how much. Left out means these, never none."""

    cooldown: Remembered = Field(
        default=Millis(10 * MINUTE), description="Rest of a target after an action of any policy."
    )
    per_target: tuple[BudgetField, ...] = Field(
        default_factory=lambda: (Budget(count=2, window=HOUR),),
        json_schema_extra={"default": ["2 per 1h"]},
        min_length=1,
        max_length=10,
        description="This policy's actions on one target: `[2 per 1h]`.",
    )
    budget: tuple[BudgetField, ...] = Field(
        default_factory=lambda: (Budget(count=4, window=HOUR), Budget(count=10, window=DAY)),
        json_schema_extra={"default": ["4 per 1h", "10 per 1d"]},
        min_length=1,
        max_length=10,
        description="This policy's actions on all targets: `[4 per 1h, 10 per 1d]`.",
    )
    concurrent: Count = Field(default=1, description="Runs of this policy that may act at the same time.")
    open_runs: Count = Field(
        default=20, description="Open runs of this policy; further episodes are refused."
    )
    flapping: BudgetField = Field(
        default_factory=lambda: Budget(count=6, window=DAY),
        json_schema_extra={"default": "6 per 1d"},
        description="Healed so often, and back again: then a person is called instead.",
    )
    blast_radius: BlastRadiusField = Field(
        default_factory=lambda: BlastRadius(percent=50),
        json_schema_extra={"default": "50%"},
        description="The most of a target one action may touch: `30%`, or a number in the action's unit.",
    )


class Verify(Frozen):
    """How to know that it healed. No data is not health."""

    after: Duration = Field(default=Millis(0), description="Let it settle for this long first.")
    within: Positive = Field(description="Then it must have healed within this.")
    every: Positive = Field(default=Millis(15 * SECOND), description="How often to look.")
    stable_for: Duration = Field(default=Millis(0), description="And stay so for this long.")
    checks: tuple[CheckUse, ...] = Field(min_length=1, max_length=20, description="All must hold.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.every < SECOND:
            raise ValueError("`every:` must be at least 1s")
        if self.stable_for > self.within:
            raise ValueError("`stable_for:` is longer than `within:`, so it can never be healed in time")
        _need_comparison(self.checks, "verify")
        return self


class Approval(Frozen):
    """Who may approve, with mode approve."""

    role: Role = Field(description="The lowest role that may approve; the action may need a higher one.")
    expires: Positive = Field(default=Millis(15 * MINUTE), description="After this it is refused.")


class Policy(Frozen):
    """What to do about one kind of alert, bounded and verified."""

    name: Name = Field(description="Unique, and the file's name without .yaml.")
    description: str = Field(default="", description="For the person who is woken: what and why.")
    severity: Severity = Field(default=Severity.P3, description="P1 (gravest) to P4, as in the runbooks.")
    owner: str = Field(default="", description="The team that answers for this policy.")
    runbook: str = Field(default="", description="Where a person reads on.")
    mode: Mode = Field(
        default=Mode.OBSERVE, description="observe: plan and record. approve: ask first. enforce: act."
    )
    from_: tuple[str, ...] = Field(
        default=(),
        alias="from",
        description="The senders that may trigger it; required unless mode is observe.",
    )
    match: tuple[MatcherField, ...] = Field(
        min_length=1, max_length=50, description="Alertmanager's label matchers; all must hold."
    )
    for_: Duration = Field(
        default=Millis(0), alias="for", description="Firing at least this long, counted from its start."
    )
    give_up: Positive = Field(
        default=Millis(30 * MINUTE), description="How long a run may wait before it goes to a person."
    )
    when: tuple[CheckUse, ...] = Field(
        default=(), max_length=20, description="Live checks right before acting; all must hold."
    )
    evidence: tuple[CheckUse, ...] = Field(
        default=(), max_length=20, description="Read-only look-ups kept for the post-mortem."
    )
    remedies: tuple[Remedy, ...] = Field(
        min_length=1, max_length=20, description="A ladder, gentlest first; the next only if it did not heal."
    )
    limits: Limits = Field(default_factory=Limits)
    verify: Verify | None = Field(default=None)
    on_failure: Literal["revert", "keep"] = Field(
        default="keep", description="What becomes of the effect when it did not heal; both escalate."
    )
    escalate: str | None = Field(default=None, description="A chain of escalation.yaml.")
    approval: Approval | None = Field(default=None, description="With mode approve.")
    only_during: tuple[str, ...] = Field(
        default=(), description="Windows of windows.yaml in which alone it may act."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.mode is not Mode.OBSERVE and not self.from_:
            raise ValueError(
                f"`from:` is missing: with mode {self.mode}, name the senders that may trigger this policy"
            )
        if len(self.remedies) > 1 and self.verify is None:
            raise ValueError(
                "`verify:` is missing: with several remedies it decides whether the next is needed"
            )
        if self.approval is not None and self.mode is Mode.ENFORCE:
            raise ValueError(
                "`approval:` has no meaning with mode enforce; write mode: approve, or remove it"
            )
        _need_comparison(self.when, "when")
        for use in self.evidence:
            if use.is_ is not None:
                raise ValueError(f"`evidence:` is only read, so {use.check} must not have `is:`; use `when:`")
        return self


def _need_comparison(uses: tuple[CheckUse, ...], where: str) -> None:
    for use in uses:
        if use.is_ is None:
            raise ValueError(f'`{where}:` {use.check} has no `is:`; write what its value must be: is: "> 50"')


def json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors: with the catalogue's actions and their parameters."""
    from remediator.policy.editor import build

    return build(catalogue)
