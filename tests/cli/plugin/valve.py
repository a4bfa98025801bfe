"""Opens a valve: a number in a file grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from remediator.contracts import (
    Check,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
)
from remediator.errors import Permanent
from remediator.model import Millis, Plan, Reading, Sample, Target
from tests.fakes.sized import Sized


class OpenParams(Params):
    directory: str
    name: Annotated[str, Selector("[a-z0-9-]{1,40}")]
    by: int = Field(default=1, ge=1, le=10)


class Open(Sized[OpenParams]):
    """Opens a valve further."""

    name = "valve.open"
    summary = "Open a valve further"
    params = OpenParams
    irreversible = "this is a test"
    idempotency = Idempotency("probe")
    landing_time = Millis(100)
    blast_unit = "turns"
    fields = ("turns",)
    permissions = (Permission("file", "write", "to turn it"),)
    example = {"action": name, "with": {"directory": "/nowhere", "name": "main"}}

    def target_name(self, params: OpenParams) -> str:
        return f"valve:{params.name}"

    def observe(self, context: Context, params: OpenParams) -> Observed:
        file = Path(params.directory) / params.name
        try:
            turns = int(file.read_text())
        except OSError:
            raise Permanent(f"there is no valve {params.name!r}") from None
        target = Target(name=f"valve:{params.name}", key=f"valve/{file}")
        return Observed(target=target, fields={"turns": turns})

    def plan(self, observed: Observed, params: OpenParams, done: Sequence[Plan]) -> Plan | Nothing:
        turns = observed.fields["turns"]
        if turns >= 10:
            return Nothing(why="it is wide open")
        return self.change(observed, min(10, turns + params.by), 10, params.model_dump())

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        (Path(plan.params["directory"]) / plan.params["name"]).write_text(str(plan.after["turns"]))
        return {}


class Lend(Open):
    """Opens a valve by some turns, and can close it by as many."""

    name = "valve.lend"
    irreversible = None
    example = {"action": name, "with": {"directory": "/nowhere", "name": "main"}}


class LevelParams(Params):
    directory: str
    name: Annotated[str, Selector("[a-z0-9-]{1,40}")]


class Turns(Check[LevelParams]):
    """How far a valve is open."""

    name = "valve.turns"
    summary = "How far a valve is open"
    params = LevelParams
    unit = ""
    permissions = ()
    example = {"check": name, "with": {"directory": "/nowhere", "name": "main"}, "is": "> 1"}

    def read(self, context: Context, params: LevelParams) -> Reading:
        turns = float((Path(params.directory) / params.name).read_text())
        return Reading(samples=(Sample(at=context.now, value=turns),))
