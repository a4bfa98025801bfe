"""The ranges of ids that are known to be gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediator.store.pruned import beyond, merge


def test_gaps_between_deleted_records_were_never_records() -> None:
    assert merge((), [3, 7, 20], []) == ((0, 20),)


def test_what_is_kept_in_between_is_not_gone() -> None:
    assert merge((), [3, 20], [7, 9, 30]) == ((0, 6), (8, 8), (10, 20))


def test_a_kept_record_that_vanished_is_not_made_good_by_the_next_pruning() -> None:
    former = merge((), [3, 20], [7])
    assert merge(former, [25], []) == ((0, 6), (8, 25))


def test_a_kept_record_that_is_pruned_later_closes_its_gap() -> None:
    former = merge((), [3, 20], [7])
    assert merge(former, [7], []) == ((0, 20),)


def test_beyond() -> None:
    assert beyond(((0, 6), (8, 25)), 10) == ((11, 25),)


@given(
    st.sets(st.integers(0, 60)).flatmap(
        lambda ids: st.tuples(st.just(ids), st.lists(st.sets(st.integers(0, 60)), max_size=4))
    )
)
def test_only_deleted_ids_are_covered_whatever_the_order(case: tuple[set[int], list[set[int]]]) -> None:
    present, prunings = case
    everything = set(present)
    ranges: tuple[tuple[int, int], ...] = ()
    for wanted in prunings:
        deleted = sorted(wanted & present)
        present = present - set(deleted)
        edge = ranges[-1][1] if ranges else -1
        ranges = merge(ranges, deleted, sorted(id for id in present if id > edge))
    covered = {id for low, high in ranges for id in range(low, high + 1)}
    assert covered & everything == everything - present
