"""`limits.yaml`: what bounds the whole daemon."""

from __future__ import annotations

from pydantic import Field

from remediator.model import DAY, MINUTE, Budget, Millis
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

    new_alerts: Count
    within: Positive
    hold: Positive


class Breaker(Frozen):
    """A policy that does not heal loses its licence until a person restores it."""

    ineffective: Count
    demote_to: str = Field(pattern="^(observe|approve)$")


class GlobalLimits(Frozen):
    """The limits of the daemon; left out means the built-in ones, never none."""

    budget: tuple[BudgetField, ...] = Field(default=BUDGET, min_length=1, max_length=10)
    concurrent: Count = CONCURRENT
    targets: tuple[TargetLimit, ...] = ()
    storm: Storm | None = None
    breaker: Breaker | None = None


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
    storm: Storm | None = Field(default=None, description="Many new alerts at once: hold, then guard again.")
    breaker: Breaker | None = Field(default=None, description="Demote a policy after ineffective runs.")

    def limits(self) -> GlobalLimits:
        return GlobalLimits(
            budget=self.global_.budget,
            concurrent=self.global_.concurrent,
            targets=self.targets,
            storm=self.storm,
            breaker=self.breaker,
        )
