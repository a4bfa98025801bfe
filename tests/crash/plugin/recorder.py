"""The action that talks to the recording provider; daemons load it as a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import httpx2
from pydantic import Field

from remediator.clients.http import HttpClient
from remediator.contracts import (
    ConnectionOf,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
)
from remediator.errors import Ambiguous, Temporary
from remediator.model import Millis, Plan, Target
from tests.fakes.sized import Sized


class GrowParams(Params):
    connection: Annotated[str, ConnectionOf("http")]
    name: Annotated[str, Selector("[a-z0-9-]{1,40}")]
    add: int = Field(default=1, ge=1, le=10)
    max: int = Field(default=100, ge=1, le=100)
    url: str


class Grow(Sized[GrowParams]):
    """Adds to a size at the recording provider."""

    name = "recorder.grow"
    summary = "Grow something at the recording provider"
    params = GrowParams
    idempotency = Idempotency("probe")
    landing_time = Millis(300)
    blast_unit = "units"
    permissions = (Permission("http", "POST", "to grow"),)
    example = {"action": name, "with": {"connection": "recorder", "name": "a", "url": "http://127.0.0.1"}}

    def target_name(self, params: GrowParams) -> str:
        return f"recorder:{params.name}"

    def observe(self, context: Context, params: GrowParams) -> Observed:
        context.client(HttpClient, params.connection)  # the connection must exist
        try:
            size = httpx2.get(f"{params.url}/{params.name}", timeout=5).json()["size"]
        except httpx2.HTTPError as error:
            raise Temporary(f"provider: {type(error).__name__}") from error
        target = Target(name=f"recorder:{params.name}", key=f"recorder/{params.name}")
        return Observed(target=target, fields={"size": size})

    def plan(self, observed: Observed, params: GrowParams, done: Sequence[Plan]) -> Plan | Nothing:
        size = observed.fields["size"]
        after = min(size + params.add, params.max)
        if after <= size:
            return Nothing(why=f"{size} already")
        return self.change(observed, after, params.max, params.model_dump())

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        call = {"name": plan.params["name"], "token": token, **plan.before, "after": plan.after["size"]}
        try:
            httpx2.post(plan.params["url"], json=call, timeout=10)
        except httpx2.ConnectError as error:
            raise Temporary("provider is not there") from error
        except httpx2.HTTPError as error:
            raise Ambiguous(f"provider: {type(error).__name__}") from error
        return {"size": plan.after["size"]}
