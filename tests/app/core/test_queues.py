"""Queues, lanes, priorities, and the order in which a worker polls queues."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.celery_app import make_celery
from app.core.queues import QUEUES
from app.core.settings import load_settings
from laneway.engine import RoundRobin
from laneway.installation import RESULT_BACKEND, TRANSPORT
from laneway.platform.celery_app import PRIORITY_STEPS
from laneway.platform.queues import LANE_WEIGHTS, Lane, LaneCycle, Priority
from laneway.platform.registry import registry
from tests.fixtures.platform import Environment

HIGH, MEDIUM, LOW = "conversations", "webhooks", "analytics"
DRAWS = 20_000


def test_every_registered_task_goes_to_a_declared_queue() -> None:
    assert {spec.queue for spec in registry.values()} <= set(QUEUES)


def test_every_ordering_key_is_a_field_of_the_payload() -> None:
    for spec in registry.values():
        assert spec.key is None or spec.key in spec.payload.model_fields


def test_the_three_main_queues_are_in_their_lanes() -> None:
    assert [QUEUES[name] for name in (HIGH, MEDIUM, LOW)] == [Lane.HIGH, Lane.MEDIUM, Lane.LOW]


def test_the_stock_transport_has_a_priority_step_for_each_priority() -> None:
    """The steps are those of the stock Redis transport; the engine has ten priorities of its own."""
    assert len(PRIORITY_STEPS) == len(Priority)
    assert {9 - 3 * priority for priority in Priority} == set(PRIORITY_STEPS)


def test_the_engine_serves_every_queue_by_the_weight_of_its_lane(environment: Environment) -> None:
    environment()
    options = make_celery(load_settings()).conf.broker_transport_options

    assert options["weights"] == {name: LANE_WEIGHTS[lane] for name, lane in QUEUES.items()}
    turns = Counter(RoundRobin({name: options["weights"][name] for name in (HIGH, MEDIUM, LOW)}).cycle)
    assert sorted(turns.values(), reverse=True) == [6, 3, 1]


def test_the_engine_uses_the_lease_of_the_settings(environment: Environment) -> None:
    environment(REDIS_URL="redis://127.0.0.1:7000", TASK_LEASE_SECONDS="7")
    conf = make_celery(load_settings()).conf

    assert conf.broker_transport == TRANSPORT
    assert conf.broker_transport_options["lease"] == 7
    assert conf.result_backend == f"{RESULT_BACKEND}+redis://127.0.0.1:7000/1"


def test_the_stock_transport_gets_its_lanes_steps_and_a_timeout_longer_than_any_task(environment: Environment) -> None:
    environment(REDIS_URL="redis://127.0.0.1:7000", BROKER_TRANSPORT="celery", TASK_TIME_LIMIT="7200")
    conf = make_celery(load_settings()).conf
    options = conf.broker_transport_options

    assert not conf.broker_transport
    assert conf.result_backend == "redis://127.0.0.1:7000/1"
    assert options["priority_steps"] == list(PRIORITY_STEPS)
    assert options["queue_order_strategy"] == "laneway.platform.queues:LaneCycle"
    assert options["visibility_timeout"] == 2 * 7200


def test_lanes_are_polled_first_in_proportion_to_their_weights() -> None:
    cycle = LaneCycle([LOW, MEDIUM, HIGH])

    first = Counter(cycle.consume(3)[0] for _ in range(DRAWS))

    assert first[HIGH] / DRAWS == pytest.approx(0.6, abs=0.02)
    assert first[MEDIUM] / DRAWS == pytest.approx(0.3, abs=0.02)
    assert first[LOW] / DRAWS == pytest.approx(0.1, abs=0.02)


def test_the_second_queue_is_drawn_from_the_others_by_weight() -> None:
    cycle = LaneCycle([HIGH, MEDIUM, LOW])

    behind = Counter(order[1] for order in (cycle.consume(3) for _ in range(DRAWS)) if order[0] == HIGH)

    assert behind[MEDIUM] / behind.total() == pytest.approx(0.75, abs=0.02)


def test_no_queue_is_starved() -> None:
    """Each queue is polled first again and again, however many urgent queues there are."""
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
def test_every_queue_is_polled_once_in_each_round(names: list[str], n: int) -> None:
    order = LaneCycle(names).consume(n)

    assert len(order) == len(set(order)) == min(n, len(names))
    assert set(order) <= set(names)


def test_the_cycle_has_the_methods_that_kombu_calls() -> None:
    cycle = LaneCycle()
    assert cycle.consume(1) == []
    cycle.update([HIGH])
    cycle.update([MEDIUM, LOW])
    cycle.rotate(MEDIUM)

    assert sorted(cycle.consume(5)) == sorted([MEDIUM, LOW])
