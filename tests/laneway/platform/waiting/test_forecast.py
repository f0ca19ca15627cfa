"""Forecasts from rates and durations: half of the tasks keep the first time, nine of ten the second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform.waiting.forecast import Place, Recent, forecast, forecast_of_running, gaps_of, percentile

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
GAPS = st.lists(st.floats(0.001, 60), min_size=1, max_size=50)
SECONDS = st.lists(st.floats(0, 3600), max_size=30)


def place(ahead: int, *, delay: float = 0, interval: float = 0) -> Place:
    return Place(now=NOW, ahead=ahead, earliest=NOW + timedelta(seconds=delay), interval=interval)


def test_the_line_moves_by_one_with_each_start() -> None:
    found = forecast(place(240), Recent(gaps=[0.4, 0.6] * 50, runs=[1, 2, 3, 30]))

    assert found is not None
    assert found.starts_p50 == NOW + timedelta(minutes=2)
    assert found.starts_p90 - NOW == pytest.approx(
        timedelta(seconds=241 * 0.5 + 1.2816 * 0.1 * 241**0.5), abs=timedelta(seconds=0.01)
    )
    assert found.ends_p50 == found.starts_p50 + timedelta(seconds=2)
    assert found.ends_p90 == found.starts_p90 + timedelta(seconds=30)
    assert (found.rate, found.starts) == (120, 100)


def test_for_nine_of_ten_the_line_moves_as_in_its_slowest_tenth() -> None:
    gaps = [1.0] * 90 + [3.0] * 20
    found = forecast(place(99), Recent(gaps=gaps))

    assert found is not None
    assert found.starts_p50 - NOW == pytest.approx(timedelta(seconds=99 * 150 / 110), abs=timedelta(seconds=0.01))
    assert found.starts_p90 - NOW > timedelta(seconds=260)


def test_only_the_times_in_which_tasks_waited_count() -> None:
    def run(ready: float, started: float) -> tuple[datetime, datetime]:
        return NOW + timedelta(seconds=ready), NOW + timedelta(seconds=started)

    busy = [run(0, 1), run(0, 3), run(0, 4)]
    idle = [run(50, 50.1), run(50, 52), run(90, 90.1)]
    assert gaps_of([*idle, *busy]) == pytest.approx([2, 1, 1.9])
    assert gaps_of([]) == gaps_of(busy[:1]) == []


def test_a_due_time_and_a_rate_limit_come_before_the_pace_of_the_queue() -> None:
    recent = Recent(gaps=[0.1] * 10)
    due, limited = forecast(place(10, delay=300), recent), forecast(place(10, interval=6), recent)

    assert due is not None and due.starts_p50 == NOW + timedelta(seconds=300)
    assert limited is not None and limited.starts_p50 == NOW + timedelta(seconds=60)


def test_without_a_pace_only_the_first_of_the_line_has_a_forecast() -> None:
    first = forecast(place(0), Recent())

    assert first is not None and (first.starts_p50, first.rate, first.ends_p50) == (NOW, None, None)
    assert forecast(place(1), Recent()) is None


@given(ahead=st.integers(0, 100_000), delay=st.floats(0, 86_400), gaps=GAPS, seconds=SECONDS)
def test_a_forecast_is_in_order(ahead: int, delay: float, gaps: list[float], seconds: list[float]) -> None:
    found = forecast(place(ahead, delay=delay), Recent(gaps=gaps, runs=seconds))

    assert found is not None
    assert NOW + timedelta(seconds=delay) <= found.starts_p50 <= found.starts_p90
    if found.ends_p50 is not None and found.ends_p90 is not None:
        assert found.starts_p50 <= found.ends_p50 <= found.ends_p90
    assert (found.ends_p50 is None) == (not seconds)


@given(ahead=st.integers(0, 10_000), gaps=GAPS)
def test_who_is_further_behind_starts_no_earlier(ahead: int, gaps: list[float]) -> None:
    one, other = (forecast(place(number), Recent(gaps=gaps)) for number in (ahead, ahead + 1))

    assert one is not None and other is not None
    assert one.starts_p50 <= other.starts_p50 and one.starts_p90 <= other.starts_p90


def test_a_running_task_is_compared_with_those_that_ran_longer() -> None:
    started = NOW - timedelta(seconds=10)
    found = forecast_of_running(started, Recent(runs=[1, 2, 20, 40]), now=NOW)

    assert found is not None
    assert (found.starts_p50, found.ends_p50) == (started, started + timedelta(seconds=20))
    assert forecast_of_running(started, Recent(runs=[1, 2]), now=NOW) is None


@pytest.mark.parametrize(("rank", "value"), [(1, 1), (10, 1), (50, 3), (90, 5), (100, 5)])
def test_percentiles_are_of_the_nearest_rank(rank: int, value: float) -> None:
    assert percentile([5, 4, 3, 2, 1], rank) == value
