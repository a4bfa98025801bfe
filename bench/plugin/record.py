"""An action that takes no time of its own: it writes down when it was asked to act."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated, Any

from remediator.contracts import (
    Action,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Selector,
    Settled,
)
from remediator.model import Blast, Landed, Millis, Plan, Risk, Target


class RecordParams(Params):
    id: Annotated[str, Selector(r"[0-9a-f]{6}-[0-9]{9}")]
    sent: Annotated[str, Selector(r"[0-9]{1,20}")]
    """Nanoseconds since the epoch."""
    file: str


class Record(Action[RecordParams]):
    """Appends `<id> <sent> <acted>` to a file."""

    name = "bench.record"
    summary = "Write down when it was asked to act."
    params = RecordParams
    risk = Risk.REVERSIBLE
    irreversible = "a line that was written stays written"
    idempotency = Idempotency("none")
    landing_time = Millis(1_000)
    blast_unit = "lines"
    fields = ("lines",)
    permissions = ()
    example = {"action": "bench.record", "with": {"id": "${labels.bench_id}", "sent": "0", "file": "actions"}}

    def target_name(self, params: RecordParams) -> str:
        return f"bench:{params.id}"

    def observe(self, context: Context, params: RecordParams) -> Observed:
        name = self.target_name(params)
        return Observed(target=Target(name=name, key=name), fields={"lines": 0})

    def plan(self, observed: Observed, params: RecordParams, done: Sequence[Plan]) -> Plan | Nothing:
        return Plan(
            action=self.name,
            target=observed.target,
            before={"lines": 0},
            after={"lines": 1},
            blast=Blast(amount=1, whole=100, unit=self.blast_unit),
            params=params.model_dump(mode="json"),
        )

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        line = f"{plan.params['id']} {plan.params['sent']} {time.time_ns()}\n"
        file = os.open(plan.params["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
        return {}

    def settled(self, context: Context, plan: Plan) -> Settled:
        return Settled(done=True)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        return Landed.UNCLEAR
