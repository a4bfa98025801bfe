"""Approving and rejecting by the API: who may, once, and what is answered otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.asking import Asking, asking
from tests.web.test_api import problem


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with asking(tmp_path_factory.mktemp("asking")) as made:
        yield made


def test_a_question_shows_all_that_is_to_be_decided(house: Asking) -> None:
    asked = house.ask()
    assert (asked["plan"]["before"], asked["plan"]["after"]) == ({"turns": 0}, {"turns": 2})
    assert asked["plan"]["blast"] == {"amount": 2, "whole": 10, "unit": "turns"}
    assert asked["worst_case"].startswith("2 of 10 turns (20%) are touched; it cannot be undone")
    assert (asked["role"], asked["level"], asked["decision"]) == ("manager", 1, None)
    assert asked["evidence"]["valve.turns"]["samples"][0][1] == 0
    run = house.get(f"runs/{asked['run']}")
    assert (run["state"], run["reason"], run["next_at"]) == (
        "APPROVAL",
        "approval_pending",
        asked["expires_at"],
    )
    assert run["approvals"] == [asked]
    assert house.turns(asked) == 0


def test_approved_it_acts_and_the_second_word_is_a_conflict(house: Asking) -> None:
    asked = house.ask()
    answer = house.decide("approve", asked, "manager-token-for-tests", approval=asked["id"])
    assert answer.status_code == 200
    assert (answer.json()["decision"], answer.json()["actor"], answer.json()["comment"]) == (
        "approved", "mia", "seen",
    )  # fmt: skip
    run = house.ended(asked["run"])
    assert run["outcome"] == "succeeded"
    assert house.turns(asked) == 2
    for word in ("approve", "reject"):
        detail = problem(house.decide(word, asked, "lead-token-for-tests"), 409)
        assert f"approval {asked['id']} of run {asked['run']} was approved by mia at 20" in detail
    assert [event["actor"] for event in run["events"] if event["kind"] == "approval.approved"] == ["mia"]


def test_rejected_it_is_refused_and_says_by_whom(house: Asking) -> None:
    asked = house.ask()
    assert house.decide("reject", asked, "lead-token-for-tests").json()["decision"] == "rejected"
    run = house.ended(asked["run"])
    assert (run["outcome"], run["reason"]) == ("refused", "approval_rejected")
    assert run["observed"] == "lea rejected it: seen"
    assert house.turns(asked) == 0


@pytest.mark.parametrize(
    ("token", "who"),
    [("viewer-token-for-tests", "vera is viewer"), ("operator-token-for-tests", "otto is operator")],
)
@pytest.mark.parametrize("word", ["approve", "reject"])
def test_who_lacks_the_role_is_refused_by_name(house: Asking, token: str, who: str, word: str) -> None:
    asked = house.ask()
    detail = problem(house.decide(word, asked, token), 403)
    what = f"valve.open on {asked['plan']['target']}"
    assert detail == f"{who}; approving {what} needs the role manager or a higher one"
    assert house.get(f"runs/{asked['run']}")["approvals"][0]["decision"] is None


def test_nobody_decides_without_a_token(house: Asking) -> None:
    asked = house.ask()
    with house.running.client() as client:
        problem(client.post(f"/api/v1/runs/{asked['run']}/approve", json={"comment": "x"}), 401)


@pytest.mark.parametrize("comment", [None, "", " \n\t", "\u2028", "x" * 1_001, 5])
def test_a_comment_is_required(house: Asking, comment: object) -> None:
    asked = house.ask()
    problem(house.decide("approve", asked, "manager-token-for-tests", comment=comment), 422)


def test_another_question_than_the_one_that_was_read_is_not_decided(house: Asking) -> None:
    asked, other = house.ask(), house.ask()
    detail = problem(house.decide("approve", asked, "manager-token-for-tests", approval=other["id"]), 404)
    assert f"of run {other['run']}" in detail
    problem(house.decide("approve", asked, "manager-token-for-tests", approval=987_654), 404)
    assert house.turns(asked) == house.turns(other) == 0


def test_a_run_that_asks_nothing(house: Asking) -> None:
    with house.running.client("manager-token-for-tests") as client:
        problem(client.post("/api/v1/runs/987654/approve", json={"comment": "x"}), 404)


def test_who_started_it_by_hand_may_not_approve_it(house: Asking) -> None:
    (house.home / "by-hand").write_text("0")
    with house.running.client("manager-token-for-tests") as client:
        start = {"policy": "pressure", "labels": {"valve": "by-hand"}, "reason": "drill"}
        assert client.post("/api/v1/runs", json=start).status_code == 201
    asked = house.asked("by-hand")
    assert asked["started_by"] == "mia"
    detail = problem(house.decide("approve", asked, "manager-token-for-tests"), 403)
    assert "mia has started run" in detail
    assert "somebody else" in detail
    assert house.decide("approve", asked, "other-manager-token-for-tests").status_code == 200
    house.ended(asked["run"])


def test_who_started_it_by_hand_may_reject_it(house: Asking) -> None:
    (house.home / "taken-back").write_text("0")
    with house.running.client("manager-token-for-tests") as client:
        start = {"policy": "pressure", "labels": {"valve": "taken-back"}, "reason": "drill"}
        assert client.post("/api/v1/runs", json=start).status_code == 201
    asked = house.asked("taken-back")
    assert house.decide("reject", asked, "manager-token-for-tests").status_code == 200
    assert house.ended(asked["run"])["reason"] == "approval_rejected"


def test_four_eyes_can_be_switched_off(tmp_path: Path) -> None:
    with asking(tmp_path, "  four_eyes: false\n") as house:
        (house.home / "by-hand").write_text("0")
        with house.running.client("manager-token-for-tests") as client:
            start = {"policy": "pressure", "labels": {"valve": "by-hand"}, "reason": "drill"}
            client.post("/api/v1/runs", json=start).raise_for_status()
        assert house.decide("approve", house.asked("by-hand"), "manager-token-for-tests").status_code == 200


def test_open_and_decided_questions_are_listed(house: Asking) -> None:
    asked, other = house.ask(), house.ask()
    house.decide("reject", other, "manager-token-for-tests")
    open_ = [one["id"] for one in house.get("approvals", open="true", limit=1_000)["items"]]
    decided = [one["id"] for one in house.get("approvals", open="false", limit=1_000)["items"]]
    assert asked["id"] in open_
    assert other["id"] in decided
    assert not set(open_) & set(decided)
    assert [one["id"] for one in house.get("approvals", run=asked["run"])["items"]] == [asked["id"]]
