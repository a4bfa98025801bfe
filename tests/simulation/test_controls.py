"""The simulation can fail: what is broken on purpose is noticed by the invariant that is meant for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.sabotage import SABOTAGE
from tests.simulation.scenario import draw
from tests.simulation.simulation import play, quiet

SEEDS = 150


@pytest.mark.parametrize("name", sorted(SABOTAGE))
def test_what_is_broken_is_noticed(name: str) -> None:
    wanted = SABOTAGE[name].invariant
    others: dict[str, int] = {}
    with quiet():
        for seed in range(SEEDS):
            violation = play(replace(draw(seed), sabotage=name)).violation
            if violation is None:
                continue
            if violation.invariant == wanted:
                return
            others[str(violation)] = seed
    raise AssertionError(f"{name}: nobody noticed {wanted!r} in {SEEDS} seeds; noticed were {others}")
