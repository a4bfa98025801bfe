"""The judge can find fault with what the short campaigns hardly ever come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.crash.judge import INVARIANTS, Case
from tests.crash.ledger import Ledger
from tests.crash.load import FICKLE, fickle

Row = dict[str, Any]
AT = 1_800_000_000_000


@dataclass
class Rows:
    """What a store might have held."""

    intents: list[Row]
    events: list[Row] = field(default_factory=list)
    approvals: list[Row] = field(default_factory=list)
    revisions: dict[str, Row] = field(default_factory=dict)

    def events_of(self, *kinds: str) -> list[Row]:
        return [event for event in self.events if event["kind"] in kinds]


def intent(policy: str = "push", at: int = AT, **more: Any) -> Row:
    plan = {"blast": {"amount": 1.0}}
    row = {"run": 1, "number": 0, "rung": 0, "step": 0, "kind": "apply", "policy": policy, "counted": 1}
    row |= {"target": "works:t12", "target_key": "works/t12", "created_at": at, "outcome": "applied"}
    return row | {"plan": plan} | more


def event(kind: str, at: int, **data: Any) -> Row:
    return {"kind": kind, "at": at, "observed": data.pop("observed", None), "data": data}


def yes(**more: Any) -> Row:
    plan = {"blast": {"amount": 1.0}, "target": {"key": "works/t12"}}
    row = {"id": 1, "run": 1, "decision": "approved", "data": {"rung": 0, "step": 0}, "plan": plan}
    return row | {"decided_at": AT - 10, "expires_at": AT + 5_000} | more


def sets(*modes: str) -> dict[str, Row]:
    texts = {mode: fickle("http://nowhere", mode) for mode in modes}
    return {mode or "gone": {f"{FICKLE}.yaml": text} if text else {} for mode, text in texts.items()}


def loaded(at: int, mode: str) -> Row:
    return event("policy.loaded", at, observed=mode)


UNAPPROVED = "actions without approval, or twice on one"
LICENCE = "actions of a policy gone or demoted"
STORM = event("storm.tripped", AT - 2_000, until="2027-01-15T08:00:05.000Z")
PAUSE = event("control.paused", AT - 10, scope="policy:push", until=AT + 2_000)


@pytest.mark.parametrize(
    ("name", "rows", "faults"),
    [
        (UNAPPROVED, Rows([intent("ask")], approvals=[yes()]), 0),
        (UNAPPROVED, Rows([intent("ask")]), 1),
        (UNAPPROVED, Rows([intent("ask")], approvals=[yes(decision="rejected")]), 1),
        (UNAPPROVED, Rows([intent("ask")], approvals=[yes(decided_at=AT + 6_000)]), 1),
        (UNAPPROVED, Rows([intent("ask", target_key="works/t13")], approvals=[yes()]), 1),
        (UNAPPROVED, Rows([intent("ask", plan={"blast": {"amount": 2.0}})], approvals=[yes()]), 1),
        (UNAPPROVED, Rows([intent("ask"), intent("ask", number=1)], approvals=[yes()]), 1),
        (UNAPPROVED, Rows([], events=[event("approval.approved", AT, approval=1)] * 2), 1),
        (LICENCE, Rows([intent(FICKLE)], [loaded(0, "enforce")], revisions=sets("enforce")), 0),
        (LICENCE, Rows([intent(FICKLE)], [loaded(0, "observe")], revisions=sets("observe")), 1),
        (LICENCE, Rows([intent(FICKLE)], [loaded(0, "gone")], revisions=sets("")), 1),
        ("actions that start in a window", Rows([intent()]), 1),
        ("actions that start in a window", Rows([intent(counted=0)]), 0),
        ("actions that start in a window", Rows([intent(target="works:t2")]), 0),
        ("actions that start in a storm", Rows([intent()], [STORM]), 1),
        ("actions that start in a storm", Rows([intent(at=AT + 6_000)], [STORM]), 0),
        ("actions during a pause", Rows([intent()], [PAUSE]), 1),
        ("actions during a pause", Rows([intent("put")], [PAUSE]), 0),
        (
            "actions during a pause",
            Rows([intent()], [PAUSE, event("control.resumed", AT - 5, scope="policy:push")]),
            0,
        ),
    ],
)
def test_it_finds_what_is_there_and_nothing_else(name: str, rows: Rows, faults: int) -> None:
    case = Case([], [], cast(Ledger, rows), closed=(AT - 1_000, AT + 1_000))
    assert len(list(INVARIANTS[name](case))) == faults
