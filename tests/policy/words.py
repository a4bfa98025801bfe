"""A small vocabulary of real actions and checks for the tests of the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from remediator.catalogue import Catalogue
from remediator.contracts import (
    Action,
    Check,
    ConnectionOf,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.model import Alert, Instant, Landed, Millis, Plan, Reading, Risk, Status
from remediator.policy.vocabulary import Vocabulary


class ResizeParams(Params):
    connection: Annotated[str, ConnectionOf("aws")]
    group: Annotated[str, Selector(r"[A-Za-z0-9._-]{1,80}")]
    add: Annotated[int, Field(strict=True, ge=1, le=20)]
    max: Annotated[int, Field(strict=True, ge=1, le=100)]
    zone: Annotated[str, Selector(r"[a-z0-9-]+")] | None = None
    tags: dict[str, Annotated[str, Selector(r"[a-z]+")]] = {}


class Resize(Action[ResizeParams]):
    name = "pool.resize"
    summary = "Add workers to a pool"
    params = ResizeParams
    risk = Risk.REVERSIBLE
    idempotency = Idempotency("conditional")
    landing_time = Millis(1000)
    blast_unit = "workers"
    fields = ("size",)
    permissions = (Permission("aws", "pool:Resize", "to resize"),)
    example = {
        "action": "pool.resize",
        "with": {"connection": "aws-prod", "group": "gpu", "add": 1, "max": 5},
    }

    def target_name(self, params: ResizeParams) -> str:
        return f"pool:{params.group}"

    def observe(self, context: Context, params: ResizeParams) -> Observed:
        raise NotImplementedError

    def plan(self, observed: Observed, params: ResizeParams, done: Sequence[Plan]) -> Plan | Nothing:
        return Nothing(why="a word, not a deed")

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        raise NotImplementedError

    def settled(self, context: Context, plan: Plan) -> Settled:
        return Settled(done=True)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        return Landed.UNCLEAR


class Drop(Resize):
    name = "pool.drop"
    summary = "Drop a pool"
    irreversible = "what was in it is gone"


class DepthParams(Params):
    connection: Annotated[str, ConnectionOf("aws")]
    queue: Annotated[str, Selector(r"[A-Za-z0-9_-]{1,80}")]


class Depth(Check[DepthParams]):
    name = "queue.depth"
    summary = "Messages waiting"
    params = DepthParams
    unit = ""
    permissions = ()
    example = {"check": "queue.depth", "with": {"connection": "aws-prod", "queue": "jobs"}, "is": "> 50"}

    def read(self, context: Context, params: DepthParams) -> Reading:
        return Reading(samples=())


class Latency(Depth):
    name = "queue.latency"
    summary = "Age of the oldest message"
    unit = "s"


VOCABULARY = Vocabulary(
    catalogue=Catalogue([Resize(), Drop()], [Depth(), Latency()]),
    connections={"aws-prod": "aws", "aws-test": "aws", "orders": "postgres"},
    senders=frozenset({"alertmanager-prod", "gcp-prod"}),
    notifiers=frozenset({"primary", "team"}),
)

GOOD = """\
name: {name}
mode: enforce
from: [alertmanager-prod]
match:
  - alertname="QueueDepthHigh"
  - queue=~"prod-.+"
for: 5m
when:
  - check: queue.depth
    with: {{connection: aws-prod, queue: "${{labels.queue}}"}}
    is: "> 50"
remedies:
  - action: pool.resize
    with: {{connection: aws-prod, group: prod-gpu-workers, add: 2, max: 10}}
    expires: 2h
verify:
  after: 2m
  within: 20m
  checks:
    - check: queue.depth
      with: {{connection: aws-prod, queue: "${{labels.queue}}"}}
      is: "< 50"
on_failure: revert
"""


def good(name: str = "a", *replace: tuple[str, str]) -> dict[str, str]:
    """One good policy file, with texts replaced (each must be there)."""
    text = GOOD.format(name=name)
    for old, new in replace:
        assert old in text, old
        text = text.replace(old, new)
    return {f"{name}.yaml": text}


def alert(sender: str = "alertmanager-prod", **labels: str) -> Alert:
    return Alert(
        sender=sender,
        fingerprint="f1",
        status=Status.FIRING,
        labels=labels,
        annotations={"summary": "many"},
        starts_at=Instant(0),
    )
