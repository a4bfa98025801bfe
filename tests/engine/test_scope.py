"""Whoever mistypes a name at night must not believe that he is safe."""

from __future__ import annotations

import pytest

from remediator.engine.scope import check_policy, check_target
from remediator.errors import NotFound
from tests.engine.world import Known, World

SEEN = {"world:gpu", "world/earth/gpu", "postgres:orders"}


def test_a_policy_must_be_there() -> None:
    check_policy("queue", {"queue", "other"})
    with pytest.raises(
        NotFound, match=r"no policy is named 'que'; did you mean 'queue'\? there are: other, queue"
    ):
        check_policy("que", {"queue", "other"})


@pytest.mark.parametrize("name", sorted(SEEN))
def test_a_target_that_was_met_is_paused_without_a_word(name: str) -> None:
    assert check_target(name, SEEN, Known(World())) == ""


def test_a_target_that_was_not_met_is_warned_of() -> None:
    said = check_target("postgres:order", SEEN, Known(World()))
    assert said.startswith("no run has met postgres:order so far")
    assert "did you mean 'postgres:orders'?" in said


@pytest.mark.parametrize("name", ["orders", "postgre:orders", "world:", ":gpu", "world/earth/gp"])
def test_what_cannot_be_a_target_is_refused(name: str) -> None:
    with pytest.raises(NotFound, match="systems are: postgres, world"):
        check_target(name, SEEN, Known(World()))
