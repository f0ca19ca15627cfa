"""Queues, lanes, priorities, and the order in which a worker asks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.catalog import CATALOG
from app.core.queues import LANE_WEIGHTS, PRIORITY_STEPS, QUEUES, Lane, LaneCycle, Priority

HIGH, MEDIUM, LOW = "conversations", "webhooks", "analytics"
DRAWS = 20_000


def test_every_task_of_the_catalog_goes_to_a_known_queue() -> None:
    assert {spec.queue for spec in CATALOG.values()} <= set(QUEUES)


def test_every_ordering_key_is_a_field_of_the_payload() -> None:
    for spec in CATALOG.values():
        assert spec.key is None or spec.key in spec.payload.model_fields


def test_the_three_main_queues_are_in_their_lanes() -> None:
    assert [QUEUES[name] for name in (HIGH, MEDIUM, LOW)] == [Lane.HIGH, Lane.MEDIUM, Lane.LOW]


def test_there_is_a_step_for_each_priority() -> None:
    assert len(PRIORITY_STEPS) == len(Priority)
    assert {9 - 3 * priority for priority in Priority} == set(PRIORITY_STEPS)


def test_lanes_are_asked_first_in_proportion_to_their_weights() -> None:
    cycle = LaneCycle([LOW, MEDIUM, HIGH])

    first = Counter(cycle.consume(3)[0] for _ in range(DRAWS))

    assert first[HIGH] / DRAWS == pytest.approx(0.6, abs=0.02)
    assert first[MEDIUM] / DRAWS == pytest.approx(0.3, abs=0.02)
    assert first[LOW] / DRAWS == pytest.approx(0.1, abs=0.02)


def test_the_second_place_is_drawn_from_the_rest_by_weight() -> None:
    cycle = LaneCycle([HIGH, MEDIUM, LOW])

    behind = Counter(order[1] for order in (cycle.consume(3) for _ in range(DRAWS)) if order[0] == HIGH)

    assert behind[MEDIUM] / behind.total() == pytest.approx(0.75, abs=0.02)


def test_no_queue_is_starved() -> None:
    """However many urgent queues there are, each one is asked first again and again."""
    cycle = LaneCycle(QUEUES)

    first = Counter(cycle.consume(len(QUEUES))[0] for _ in range(DRAWS))

    assert set(first) == set(QUEUES)
    share = LANE_WEIGHTS[Lane.LOW] / sum(LANE_WEIGHTS[lane] for lane in QUEUES.values())
    assert min(first.values()) > DRAWS * share / 2


def test_an_unknown_queue_is_in_the_low_lane() -> None:
    cycle = LaneCycle([HIGH, "somebody-elses"])

    first = Counter(cycle.consume(2)[0] for _ in range(DRAWS))

    assert first["somebody-elses"] / DRAWS == pytest.approx(1 / 7, abs=0.02)


@given(names=st.lists(st.sampled_from([*QUEUES, "other"]), unique=True), n=st.integers(0, 10))
def test_every_queue_is_asked_once_in_each_round(names: list[str], n: int) -> None:
    order = LaneCycle(names).consume(n)

    assert len(order) == len(set(order)) == min(n, len(names))
    assert set(order) <= set(names)


def test_kombus_protocol_is_kept() -> None:
    cycle = LaneCycle()
    assert cycle.consume(1) == []
    cycle.update([HIGH])
    cycle.update([MEDIUM, LOW])
    cycle.rotate(MEDIUM)

    assert sorted(cycle.consume(5)) == sorted([MEDIUM, LOW])
