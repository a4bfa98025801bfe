"""`limits.yaml`: what bounds the whole daemon."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from remediator.model import DAY, HOUR, MINUTE, SECOND, Budget, Millis, span
from remediator.policy import glob
from remediator.policy.fields import BudgetField, Count, Frozen, Positive

BUDGET = (Budget(count=10, window=Millis(10 * MINUTE)), Budget(count=60, window=DAY))
CONCURRENT = 3


class TargetLimit(Frozen):
    """A budget of the targets whose name fits a glob, over all policies."""

    match: str = Field(min_length=1, max_length=200, description="A glob over target names: `postgres:*`.")
    budget: tuple[BudgetField, ...] = Field(min_length=1, max_length=10)

    def covers(self, target: str) -> bool:
        return glob.matches(self.match, target)


class Storm(Frozen):
    """Many new episodes at once is not the moment to act one by one."""

    new_alerts: Count = Field(description="New alerts of one sender, of whatever kind.")
    within: Positive = Field(description="Within this long: 1s to 1h.")
    hold: Positive = Field(description="For this long nothing of that sender is acted upon; at most 1d.")
    escalate: str | None = Field(
        default=None, description="The chain that is told; left out, the chain `daemon`, or every notifier."
    )

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if not SECOND <= self.within <= HOUR:
            raise ValueError(f"`within:` is {span(self.within)}; 1s to 1h is allowed")
        if self.hold > DAY:
            raise ValueError(f"`hold:` is {span(self.hold)}; at most 1d is allowed")
        return self


class Breaker(Frozen):
    """A policy that does not heal loses its licence until a person restores it."""

    ineffective: Count = Field(le=100, description="Runs in a row that acted and did not heal.")
    demote_to: Literal["observe", "approve"] = Field(
        description="observe: it only plans. approve: a person is asked."
    )


STORM = Storm(new_alerts=100, within=MINUTE, hold=Millis(15 * MINUTE))
BREAKER = Breaker(ineffective=3, demote_to="approve")


class GlobalLimits(Frozen):
    """The limits of the daemon; left out means the built-in ones, never none."""

    budget: tuple[BudgetField, ...] = Field(default=BUDGET, min_length=1, max_length=10)
    concurrent: Count = CONCURRENT
    targets: tuple[TargetLimit, ...] = ()
    storm: Storm = STORM
    breaker: Breaker = BREAKER


class DaemonLimits(Frozen):
    """The key `global:`."""

    budget: tuple[BudgetField, ...] = Field(
        default=BUDGET,
        min_length=1,
        max_length=10,
        description="All actions of the daemon: `[10 per 10m, 60 per 1d]`.",
    )
    concurrent: Count = Field(default=CONCURRENT, description="Runs that may act at the same time.")


class LimitsFile(Frozen):
    """limits.yaml as it is written."""

    global_: DaemonLimits = Field(default_factory=DaemonLimits, alias="global")
    targets: tuple[TargetLimit, ...] = Field(default=(), max_length=1000)
    storm: Storm = Field(default=STORM, description="Many new alerts at once: hold, then guard again.")
    breaker: Breaker = Field(default=BREAKER, description="Demote a policy after ineffective runs.")

    def limits(self) -> GlobalLimits:
        return GlobalLimits(
            budget=self.global_.budget,
            concurrent=self.global_.concurrent,
            targets=self.targets,
            storm=self.storm,
            breaker=self.breaker,
        )
