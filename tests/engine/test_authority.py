"""Who may approve what unless settings say otherwise: the levels of authority of the runbooks."""

from __future__ import annotations

import pytest

from remediator.catalogue import scan
from remediator.engine.authority import level, needed
from remediator.model import Risk, Severity
from remediator.settings import Approvals

RULES = Approvals()


@pytest.mark.parametrize(
    ("risk", "role"),
    [
        (Risk.READ, "operator"),
        (Risk.REVERSIBLE, "operator"),
        (Risk.DISRUPTIVE, "manager"),
        (Risk.DESTRUCTIVE, "lead"),
    ],
)
def test_the_risk_of_an_action_says_who_may_and_an_emergency_is_for_a_lead(risk: Risk, role: str) -> None:
    for severity in (Severity.P2, Severity.P3, Severity.P4):
        assert needed(RULES, level(RULES, "any.thing", risk, severity), None) == role
    assert needed(RULES, level(RULES, "any.thing", risk, Severity.P1), None) == "lead"


def test_who_ends_the_sessions_of_others_needs_more_than_who_adds_workers() -> None:
    found = {action.name: level(RULES, action.name, action.risk, Severity.P2) for action in scan().actions()}
    assert found["autoscaling.set_capacity"] == found["kubernetes.scale"] == 1
    assert found["postgres.cancel_queries"] == found["postgres.terminate_queries"] == 2


def test_a_policy_may_ask_for_a_higher_role_and_for_no_lower_one() -> None:
    assert needed(RULES, 1, "lead") == "lead"
    assert needed(RULES, 3, "operator") == "lead"
    assert needed(RULES, 4, None) == "admin"
