"""The names of kombu's keys, and the engine's priority of a step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from laneway.adopt.layout import DEFAULT_SEPARATOR, DEFAULT_STEPS, Layout
from laneway.adopt.stock_message import engine_priority

STEPS = st.lists(st.integers(0, 255), min_size=1, max_size=40, unique=True).map(sorted)


@given(STEPS, st.data())
def test_a_step_that_kombu_delivers_first_never_gets_a_lower_priority(steps: list[int], data: st.DataObject) -> None:
    first, second = sorted((data.draw(st.sampled_from(steps)), data.draw(st.sampled_from(steps))))

    assert 9 >= engine_priority(first, steps) >= engine_priority(second, steps) >= 0


@given(st.integers(0, 9))
def test_the_steps_0_to_9_are_the_priorities_9_to_0(step: int) -> None:
    assert engine_priority(step) == 9 - step


@given(st.lists(st.integers(0, 255), min_size=1, max_size=10, unique=True).map(sorted))
def test_at_most_ten_steps_keep_their_order_strictly(steps: list[int]) -> None:
    priorities = [engine_priority(step, steps) for step in steps]

    assert priorities == sorted(set(priorities), reverse=True)


@given(st.text(min_size=1, max_size=20), st.sampled_from([0, 3, 7, 255]), st.sampled_from(["", "shop:"]))
def test_a_key_is_read_as_it_was_written(queue: str, step: int, prefix: str) -> None:
    layout = Layout(prefix=prefix)
    if DEFAULT_SEPARATOR not in queue:
        assert layout.parse(layout.key(queue, step)) == (queue, step, DEFAULT_SEPARATOR)


def test_the_keys_are_those_of_kombus_transport(redis_urls: Any) -> None:
    options = {"sep": ":", "priority_steps": [0, 5], "global_keyprefix": "shop/"}
    with Connection(redis_urls.broker, transport_options=options) as connection, connection.channel() as channel:
        ours = [key for _step, key in Layout.from_options(options).keys("orders")]

        assert ours == [f"shop/{channel._q_for_pri('orders', step)}" for step in (0, 5)]


@pytest.mark.parametrize(
    "options",
    [
        {"priority_steps": "0,3"},
        {"priority_steps": [None, -1, 3000]},
        {"sep": 5, "global_keyprefix": None, "visibility_timeout": "long"},
        {"sep": ""},
    ],
)
def test_options_that_cannot_be_read_have_their_default(options: dict[str, Any]) -> None:
    assert Layout.from_options(options) == Layout()


def test_a_list_of_another_separator_or_prefix_is_told_apart() -> None:
    layout = Layout(prefix="shop:", separator=":")

    assert layout.parse("shop:orders:3") == ("orders", 3, ":")
    assert layout.parse(f"shop:orders{DEFAULT_SEPARATOR}3") == ("orders", 3, DEFAULT_SEPARATOR)
    assert layout.parse("orders:3") is None
    assert layout.parse("shop:orders:99999999999999999999999") == ("orders:99999999999999999999999", 0, ":")
    assert DEFAULT_STEPS == (0, 3, 6, 9)
