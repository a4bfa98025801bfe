"""Finds the least of a failing history that still fails in the same way."""

from __future__ import annotations

from tests.simulation.scenario import Event, Fault, Scenario
from tests.simulation.simulation import play


def shrink(scenario: Scenario, invariant: str, most: int = 2000) -> Scenario:
    """Delta debugging over events and faults: halves first, then single ones.

    Args:
        invariant: the violation that must remain.
        most: histories to play at most.
    """
    tries = 0

    def fails(items: list[Event | Fault]) -> bool:
        nonlocal tries
        tries += 1
        violation = play(scenario.keeping(items)).violation
        return violation is not None and violation.invariant == invariant

    items = list(scenario.items)
    size = max(1, len(items) // 2)
    while tries < most:
        start, dropped = 0, False
        while start < len(items) and tries < most:
            rest = items[:start] + items[start + size :]
            if fails(rest):
                items, dropped = rest, True
            else:
                start += size
        if size == 1 and not dropped:
            break
        size = max(1, size // 2) if not dropped or size > 1 else 1
    return scenario.keeping(items)
