"""Celery's schedules are due at the same times as before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab, schedule, solar
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.platform.schedules.celery_times import times_of
from laneway.platform.schedules.definition import Definition
from tests.fixtures.budget import budget


def numbers(first: int, last: int, *more: str) -> st.SearchStrategy[Any]:
    some = st.sets(st.integers(first, last), min_size=1, max_size=4)
    return st.one_of(st.just("*"), st.sampled_from(["*/2", "*/5", *more]), some, st.integers(first, last))


FIRST, LAST = datetime.fromisoformat("2001-01-01"), datetime.fromisoformat("2037-12-31")
CRONTABS = st.builds(
    crontab,
    minute=numbers(0, 59, "1-59/2"),
    hour=numbers(0, 23),
    day_of_month=numbers(1, 28, "1-7,15"),
    month_of_year=numbers(1, 12, "jan-mar"),
    day_of_week=numbers(0, 6, "mon-fri", "fri-mon", "sun"),
)


@settings(max_examples=budget(short=60, long=1000), deadline=None)
@given(CRONTABS, st.datetimes(FIRST, LAST, timezones=st.just(UTC)))
def test_a_crontab_is_due_when_celery_says(when: Any, at: datetime) -> None:
    timing = Definition(task="t", **times_of(when)).timing("key")
    due = timing.next(at)
    assert due is not None
    when.nowfun = lambda: at
    started, remaining, _ = when.remaining_delta(at)
    assert started + remaining == due


@pytest.mark.parametrize("when", [timedelta(seconds=90), 90, 90.0, schedule(90.0)])
def test_an_interval(when: Any) -> None:
    assert times_of(when) == {"every": 90.0}


def test_a_schedule_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="solar cannot be kept: use crontab, or a timedelta"):
        times_of(object.__new__(solar))
