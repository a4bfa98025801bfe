"""What an approval covers: the same target, the same way, and no more of it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from remediator.engine.coverage import covers, uncovered
from remediator.model import Blast, Plan, Target


def plan(before: dict[str, Any], after: dict[str, Any], amount: float = 1, **more: Any) -> Plan:
    return Plan(
        action=more.pop("action", "world.resize"),
        target=Target(name=more.pop("name", "world:gpu"), key=more.pop("key", "world/gpu")),
        before=before,
        after=after,
        blast=Blast(amount=amount, whole=more.pop("whole", 10), unit=more.pop("unit", "members")),
        params={},
    )


UP = plan({"size": 3}, {"size": 5}, 2)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (plan({"size": 3}, {"size": 5}, 2), ""),
        (plan({"size": 4}, {"size": 6}, 2), ""),
        (plan({"size": 4}, {"size": 5}, 1), ""),
        (plan({"size": 4}, {"size": 4}, 0), ""),
        (plan({"size": 3}, {"size": 5}, 2, name="world:alias"), ""),  # a name is not an identity
        (plan({"size": 3}, {"size": 2}, 1), "size goes 3 → 2, approved was 3 → 5"),
        (plan({"size": 3}, {"size": 6}, 3), "it touches 3 members, approved were 2"),
        (plan({"size": 3}, {"size": 5}, 2, whole=9), "it touches 2 of 9 members, approved were 2 of 10"),
        (plan({"size": 3}, {"size": 5}, 2, whole=20), ""),
        (plan({"size": 3}, {"size": 5}, 2, whole=None), "of an unknown whole"),
        (plan({"size": 3}, {"size": 5}, 2, unit="groups"), "counted in groups"),
        (plan({"size": 3}, {"size": 5}, 2, key="world/cpu"), "the target is"),
        (plan({"size": 3}, {"size": 5}, 2, action="world.delete"), "the action is"),
        (plan({"size": 3, "min": 1}, {"size": 5, "min": 2}, 2), "min is not in both plans"),
        (plan({"size": 3}, {"size": math.nan}, 2), "size goes"),
        (plan({"size": 3}, {"size": 5}, math.nan), "it touches nan"),
        (plan({"size": False}, {"size": True}, 2), "size goes"),
    ],
)  # fmt: skip
def test_a_growth_of_two(now: Plan, why: str) -> None:
    said = uncovered(UP, now)
    assert why in said
    assert bool(why) == bool(said)


@pytest.mark.parametrize(
    ("then", "now", "covered"),
    [
        (("a", "b"), ("a", "b"), True),
        (("a", "b"), ("c", "b"), True),  # to the very value that was approved
        (("a", "b"), ("a", "c"), False),
        (("a", "b"), ("b", "b"), True),  # left as it is
        ((False, True), (False, True), True),
        ((False, True), (True, False), False),
        (([1], [2]), ([1], [3]), False),
        ((None, "b"), (None, "b"), True),
        ((1, 2), ("1", "2"), False),
        # traffic: from old to new, then the rest of it
        (({"old": 100}, {"old": 0, "new": 100}), ({"old": 50, "new": 50}, {"new": 100}), True),
        (({"old": 100}, {"old": 0, "new": 100}), ({"old": 50, "new": 50}, {"old": 100}), False),
        (({"old": 100}, {"old": 0, "new": 100}), ({"old": 100}, {"other": 100}), False),
        (({"a": "x"}, {"a": "y"}), ({"a": "x"}, {"a": "z"}), False),
        (({"a": "x"}, {"a": "y"}), ({"a": "x"}, {"b": "y"}), False),
    ],
)
def test_a_field_by_its_kind(then: tuple[Any, Any], now: tuple[Any, Any], covered: bool) -> None:
    approved = plan({"f": then[0]}, {"f": then[1]})
    assert covers(approved, plan({"f": now[0]}, {"f": now[1]})) is covered


def test_what_was_done_already_counts() -> None:
    six = plan({"size": 3}, {"size": 9}, 6)
    first, second = plan({"size": 3}, {"size": 5}, 2), plan({"size": 5}, {"size": 7}, 2)
    assert covers(six, plan({"size": 7}, {"size": 9}, 2), [first, second])
    assert not covers(six, plan({"size": 7}, {"size": 10}, 3), [first, second])


amounts = st.floats(0, 100, allow_nan=False)
sizes = st.integers(-100, 100)
values = st.one_of(
    sizes, st.text(max_size=3), st.booleans(), st.none(), st.dictionaries(st.sampled_from("ab"), sizes)
)
fields = st.dictionaries(st.sampled_from(["size", "min", "mode"]), st.tuples(values, values), min_size=1)
wholes = st.one_of(st.none(), st.floats(1, 100))


@st.composite
def plans(draw: Any) -> Plan:
    found = draw(fields)
    return plan(
        {name: pair[0] for name, pair in found.items()},
        {name: pair[1] for name, pair in found.items()},
        draw(amounts),
        whole=draw(wholes),
    )


@settings(max_examples=60, deadline=None)
@given(plans())
def test_every_plan_covers_itself(one: Plan) -> None:
    assert covers(one, one)


@settings(max_examples=60, deadline=None)
@given(plans(), amounts, st.sampled_from(["amount", "unit", "key", "action"]))
def test_more_or_elsewhere_is_never_covered(one: Plan, extra: float, what: str) -> None:
    assume(extra > 1e-6)
    other = {
        "amount": msgspec.structs.replace(
            one, blast=msgspec.structs.replace(one.blast, amount=one.blast.amount + extra)
        ),
        "unit": msgspec.structs.replace(one, blast=msgspec.structs.replace(one.blast, unit="others")),
        "key": msgspec.structs.replace(one, target=Target(name=one.target.name, key="elsewhere")),
        "action": msgspec.structs.replace(one, action="world.other"),
    }[what]
    assert not covers(one, other)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, sizes)
def test_a_number_never_goes_the_other_way(a: int, b: int, c: int, d: int) -> None:
    covered = covers(plan({"n": a}, {"n": b}), plan({"n": c}, {"n": d}))
    assert covered == (((d > c) == (b > a) and (d < c) == (b < a)) or c == d)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=8))
def test_however_it_is_cut_into_chunks_it_is_never_exceeded(chunks: list[float]) -> None:
    approved = plan({"n": 1}, {"n": 0}, 60, whole=100)
    done: list[Plan] = []
    for amount in chunks:
        chunk = plan({"n": 1}, {"n": 0}, amount, whole=100)
        if covers(approved, chunk, done):
            done.append(chunk)
    assert sum(one.blast.amount for one in done) <= 60 + 1e-6
