"""Which policies match an alert, found through an index and not policy by policy.

A policy can only match if each of its equality matchers does. The one whose label and value are
rarest among all policies is its entry in the index: an alert looks up its own labels there, and only
the few policies found are compared in full. So ten thousand policies cost an alert what ten do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from remediator.policy.matcher import Matcher

T = TypeVar("T")


class Index(Generic[T]):
    """Things with matchers, found by labels.

    Args:
        entries: each thing with the matchers that must all hold. Their order is kept in answers.
    """

    def __init__(self, entries: Iterable[tuple[T, tuple[Matcher, ...]]]) -> None:
        numbered = list(enumerate(entries))
        frequency = Counter(
            (matcher.name, value)
            for _, (_, matchers) in numbered
            for matcher in matchers
            for value in matcher.literals()
        )
        self._by_label: dict[str, dict[str, list[tuple[int, T, tuple[Matcher, ...]]]]] = {}
        self._rest: list[tuple[int, T, tuple[Matcher, ...]]] = []
        for number, (thing, matchers) in numbered:
            best = _rarest(matchers, frequency)
            if best is None:
                self._rest.append((number, thing, matchers))
                continue
            others = tuple(matcher for matcher in matchers if matcher is not best)
            values = self._by_label.setdefault(best.name, {})
            for value in best.literals():
                values.setdefault(value, []).append((number, thing, others))

    @property
    def residual(self) -> int:
        """How many have no equality matcher and are compared with every alert."""
        return len(self._rest)

    def find(self, labels: Mapping[str, str]) -> list[T]:
        """The things all of whose matchers hold, in the order they were given."""
        found: list[tuple[int, T]] = []
        for label, values in self._by_label.items():
            value = labels.get(label)
            if value is not None and value in values:
                _collect(values[value], labels, found)
        if self._rest:
            _collect(self._rest, labels, found)
        if not found:
            return []
        found.sort(key=_number)
        return [thing for _, thing in found]


def _rarest(matchers: tuple[Matcher, ...], frequency: Counter[tuple[str, str]]) -> Matcher | None:
    listed = [matcher for matcher in matchers if matcher.literals()]
    if not listed:
        return None

    def cost(matcher: Matcher) -> tuple[int, bool]:
        worst = max(frequency[(matcher.name, value)] for value in matcher.literals())
        return worst, matcher.name != "alertname"

    return min(listed, key=cost)


def _number(found: tuple[int, object]) -> int:
    return found[0]


def _collect(
    entries: list[tuple[int, T, tuple[Matcher, ...]]], labels: Mapping[str, str], found: list[tuple[int, T]]
) -> None:
    for number, thing, matchers in entries:
        for matcher in matchers:
            if not matcher.holds(labels.get(matcher.name, "")):
                break
        else:
            found.append((number, thing))
