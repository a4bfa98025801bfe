"""The index finds what comparing one by one finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediator.policy.index import Index
from remediator.policy.matcher import Matcher

_LABELS = st.sampled_from(["alertname", "queue", "env"])
_VALUES = st.sampled_from(["", "a", "b", "c", "a|b", ".*", "a.*"])
_MATCHERS = st.builds(Matcher, _LABELS, st.sampled_from(["=", "!=", "=~", "!~"]), _VALUES)
_ENTRIES = st.lists(st.lists(_MATCHERS, min_size=1, max_size=3).map(tuple), max_size=12)
_ALERTS = st.dictionaries(_LABELS, st.sampled_from(["", "a", "b", "ab", "z"]), max_size=3)


@given(_ENTRIES, _ALERTS)
def test_finds_exactly_what_matches_in_order(
    entries: list[tuple[Matcher, ...]], labels: dict[str, str]
) -> None:
    index = Index(enumerate(entries))
    expected = [n for n, matchers in enumerate(entries) if all(m.matches(labels) for m in matchers)]
    assert index.find(labels) == expected


def test_only_matchers_without_a_listed_value_are_left_over() -> None:
    index = Index(
        [
            ("equal", (Matcher("a", "=", "x"),)),
            ("listed", (Matcher("a", "=~", "x|y"),)),
            ("pattern", (Matcher("a", "=~", "x.*"),)),
            ("absent", (Matcher("a", "=", ""),)),
            ("either", (Matcher("a", "=~", "x|"),)),
        ]
    )
    assert index.residual == 3
    assert index.find({"a": "x"}) == ["equal", "listed", "pattern", "either"]
    assert index.find({}) == ["absent", "either"]
    assert index.find({"a": ""}) == ["absent", "either"]


class Counting(Matcher):
    """Counts how often it is asked."""

    __slots__ = ()
    asked = 0

    def holds(self, value: str) -> bool:
        Counting.asked += 1
        return super().holds(value)


def test_ten_thousand_policies_of_one_alertname_are_not_walked_through() -> None:
    """The rarest label leads: here `service`, though all have an alertname."""
    index = Index(
        (n, (Counting("alertname", "=", "Slow"), Counting("service", "=", f"s{n}"))) for n in range(10_000)
    )
    Counting.asked = 0
    assert index.find({"alertname": "Slow", "service": "s77"}) == [77]
    assert Counting.asked == 1
    assert index.find({"alertname": "Slow", "service": "other"}) == []
    assert Counting.asked == 1
