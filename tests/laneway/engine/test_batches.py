"""Batches that are bounded by number and by bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.batches import split


def test_a_batch_ends_before_the_item_that_exceeds_the_bytes() -> None:
    assert list(split([4, 4, 4, 1, 9], int, most=10, most_bytes=9)) == [[4, 4], [4, 1], [9]]


def test_a_batch_ends_at_its_number_of_items() -> None:
    assert list(split([0, 0, 0], int, most=2, most_bytes=9)) == [[0, 0], [0]]


def test_an_item_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    assert list(split([1, 50, 1], int, most=10, most_bytes=9)) == [[1], [50], [1]]


def test_only_one_item_is_taken_ahead_of_a_batch() -> None:
    taken: list[int] = []
    items = (taken.append(item) or item for item in [4, 4, 4, 4, 4])
    assert next(split(items, int, most=10, most_bytes=9)) == [4, 4]
    assert taken == [4, 4, 4]


@given(st.lists(st.integers(0, 20)), st.integers(1, 5), st.integers(1, 30))
def test_every_item_is_in_one_batch_in_order(sizes: list[int], most: int, most_bytes: int) -> None:
    batches = list(split(sizes, int, most=most, most_bytes=most_bytes))
    assert [item for batch in batches for item in batch] == sizes
    assert all(1 <= len(batch) <= most for batch in batches)
    assert all(sum(batch) <= most_bytes or len(batch) == 1 for batch in batches)
