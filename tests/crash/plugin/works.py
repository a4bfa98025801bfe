"""The campaign's actions: one for each way in which a provider keeps a call from acting twice, or not."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from remediator.contracts import (
    Action,
    Check,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.errors import Ambiguous, Refused, Temporary
from remediator.model import Millis, Plan, Reading, Reason, Risk, Sample, Target
from tests.fakes.sized import Sized

_LANDING = Millis(2_000)
_URL = "http://127.0.0.1:1"


class NameParams(Params):
    name: Annotated[str, Selector("[a-z0-9-]{1,40}")]
    url: str


class GrowParams(NameParams):
    add: int = Field(default=1, ge=1, le=10)
    max: int = Field(default=100, ge=1, le=1000)


class Grow(Sized[GrowParams]):
    """Makes a thing bigger. Whether it took effect can be seen; nothing keeps it from doing so twice."""

    name = "works.grow"
    summary = "Grow a thing of the witness"
    params = GrowParams
    idempotency = Idempotency("probe")
    landing_time = _LANDING
    settle_time = Millis(10_000)
    blast_unit = "units"
    permissions = (Permission("http", "POST", "to grow"),)
    example = {"action": "works.grow", "with": {"name": "a", "url": _URL}}
    kind = "probe"

    def target_name(self, params: GrowParams) -> str:
        return f"works:{params.name}"

    def observe(self, context: Context, params: GrowParams) -> Observed:
        seen = _get(params)
        target = Target(name=f"works:{params.name}", key=f"works/{params.name}")
        return Observed(target=target, fields={"size": seen["size"]}, version=str(seen["version"]))

    def plan(self, observed: Observed, params: GrowParams, done: Sequence[Plan]) -> Plan | Nothing:
        size = observed.fields["size"]
        if size + params.add > params.max:
            return Nothing(why=f"{size} already, at most {params.max}")
        return self.change(observed, size + params.add, params.max, params.model_dump())

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        by = plan.after["size"] - plan.before["size"]
        call = {"kind": self.kind, "name": plan.params["name"], "token": token, "by": by, "pid": os.getpid()}
        if self.kind == "conditional":
            call["version"] = int(plan.version or 0)
        status, answer = _send(plan.params["url"], "POST", "/", call)
        if status == 503:
            raise Temporary("the witness is busy")
        if status == 412:
            raise Refused(Reason.CHANGED_BY_PERSON, "the version has changed")
        return answer

    def settled(self, context: Context, plan: Plan) -> Settled:
        return Settled(done=not _get(GrowParams.model_validate(plan.params))["busy"])


class Push(Grow):
    """The provider remembers tokens for ten minutes."""

    name = "works.push"
    summary = "Grow a thing of the witness, deduplicated by token"
    idempotency = Idempotency("token", valid=Millis(600_000))
    example = {"action": "works.push", "with": {"name": "a", "url": _URL}}
    kind = "token"


class PushBriefly(Push):
    """The provider promises to remember tokens for a second only."""

    name = "works.push_briefly"
    summary = "Grow a thing of the witness, deduplicated for a second"
    idempotency = Idempotency("token", valid=Millis(1_000))
    example = {"action": "works.push_briefly", "with": {"name": "a", "url": _URL}}


class Put(Grow):
    """The call names the version that it was planned on, and fails on any other."""

    name = "works.put"
    summary = "Grow a thing of the witness, if it is still what it was"
    idempotency = Idempotency("conditional")
    example = {"action": "works.put", "with": {"name": "a", "url": _URL}}
    kind = "conditional"


class Kick(Grow):
    """Nothing keeps it from happening twice, and there is no way back."""

    name = "works.kick"
    summary = "Kick a thing of the witness"
    risk = Risk.DISRUPTIVE
    irreversible = "what was kicked was kicked"
    idempotency = Idempotency("none")
    example = {"action": "works.kick", "with": {"name": "a", "url": _URL}}
    kind = "none"

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        return Action.undo(self, observed, plan)


class Healthy(Check[NameParams]):
    """1 once it has grown, unless it is one of the bad ones."""

    name = "works.healthy"
    summary = "Whether a thing of the witness is well"
    params = NameParams
    unit = ""
    permissions = ()
    example = {"check": "works.healthy", "with": {"name": "a", "url": _URL}, "is": "== 1"}

    def read(self, context: Context, params: NameParams) -> Reading:
        time.sleep(0.1)  # so that processes are killed and stopped while they ask, too
        healthy = _get(params)["healthy"]
        return Reading(samples=(Sample(at=context.now, value=float(healthy)),))


def _get(params: NameParams) -> dict[str, Any]:
    try:
        return _send(params.url, "GET", f"/{params.name}", None)[1]
    except Ambiguous as error:
        raise Temporary(str(error)) from error


def _send(url: str, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
    """Raises Temporary where nothing was sent, Ambiguous where no answer came."""
    there = urlsplit(url)
    link = http.client.HTTPConnection(there.hostname or "", there.port, timeout=20)
    try:
        try:
            link.connect()
        except OSError as error:
            raise Temporary(f"the witness is not there: {error}") from error
        try:
            link.request(method, path, body=None if body is None else json.dumps(body))
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Ambiguous(f"the witness: {type(error).__name__}") from error
    finally:
        link.close()
