"""What actions on a thing with a size have in common: what became of a call, and the way back.

A subclass says where the size is (`observe`), how it changes (`plan`, `apply`), and its names.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from remediator.contracts import Action, Context, Nothing, Observed, Params, Settled
from remediator.errors import Refused
from remediator.model import Blast, Landed, Plan, Reason, Risk

P = TypeVar("P", bound=Params)


class Sized(Action[P], Generic[P]):
    """One field of the target is a number, which is what changes."""

    risk = Risk.REVERSIBLE
    fields = ("size",)

    def change(
        self, observed: Observed, after: int, whole: float, params: dict[str, Any], more: bool = False
    ) -> Plan:
        """The plan that takes the size to `after`; whole: how much there could be at most."""
        name = self.fields[0]
        before = observed.fields[name]
        return Plan(
            action=self.name,
            target=observed.target,
            before={name: before},
            after={name: after},
            blast=Blast(amount=abs(after - before), whole=whole, unit=self.blast_unit),
            params=params,
            version=observed.version,
            more=more,
        )

    def settled(self, context: Context, plan: Plan) -> Settled:
        return Settled(done=True)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        name = self.fields[0]
        seen = observed.fields[name]
        if seen == plan.after[name]:
            return Landed.APPLIED
        return Landed.NOT_APPLIED if seen == plan.before[name] else Landed.UNCLEAR

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        name = self.fields[0]
        seen, before, after = observed.fields[name], plan.before[name], plan.after[name]
        if seen == before:
            return Nothing(why="already back")
        if seen != after:
            raise Refused(
                Reason.CHANGED_BY_PERSON, f"{name} is {seen}, was left at {after}", str(seen), str(after)
            )
        return msgspec.structs.replace(
            plan, before={name: seen}, after={name: before}, version=observed.version, more=False
        )
