"""The cycle of turns between queues."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.round_robin import MAX_WEIGHT, cycle


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_a_cycle_has_turns_in_proportion_to_the_weights(weights: list[int]) -> None:
    turns = Counter(cycle(weights))
    assert all(turns[index + 1] * sum(weights) == weight * turns.total() for index, weight in enumerate(weights))


def test_turns_are_spread_over_the_cycle() -> None:
    assert list(cycle([6, 3, 1])) == [1, 2, 1, 1, 2, 3, 1, 1, 2, 1]


def test_a_cycle_may_have_any_number_of_queues() -> None:
    assert list(cycle([1] * 10_000)) == list(range(1, 10_001))


@pytest.mark.parametrize("weights", [[], [0], [MAX_WEIGHT + 1], [1] * 300 + [0]])
def test_impossible_weights_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights from 1 to 100"):
        cycle(weights)
