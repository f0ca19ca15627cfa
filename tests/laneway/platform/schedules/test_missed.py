"""Which due times act after a scheduler was away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.missed import MAX_AT_ONCE, decide

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def decided(*, since: timedelta, now: datetime = NOON, **fields: Any) -> tuple[list[datetime], datetime | None]:
    definition = Definition(task="t", **{"cron": "*/10 * * * *"} | fields)
    fire, missed = decide(definition.timing("key"), definition, decided_until=now - since, now=now)
    return list(fire), missed


def test_nothing_is_due_before_its_time() -> None:
    assert decided(since=9 * MINUTE, now=NOON - MINUTE) == ([], None)


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_what_is_due_now_acts(missed: str) -> None:
    assert decided(since=5 * MINUTE, missed=missed) == ([NOON], None)


def test_once_sends_the_last_of_those_that_were_missed() -> None:
    assert decided(since=timedelta(days=400), now=NOON + 9 * MINUTE) == ([NOON], None)


def test_skip_leaves_out_what_is_late() -> None:
    late = NOON + timedelta(seconds=61)
    assert decided(since=timedelta(days=400), now=late, missed="skip") == ([], NOON)
    assert decided(since=timedelta(days=400), now=NOON + MINUTE, missed="skip") == ([NOON], None)


def test_skip_counts_from_the_moment_at_which_a_firing_acts() -> None:
    definition = Definition(task="t", cron="0 * * * *", jitter=1800, missed="skip")  # pyright: ignore[reportArgumentType]
    acts = definition.timing("key").acts_at(NOON)
    assert acts > NOON + timedelta(seconds=90)
    assert decide(definition.timing("key"), definition, decided_until=NOON - MINUTE, now=acts).fire == [NOON]


def test_all_sends_those_of_the_window_in_order() -> None:
    fire, _ = decided(since=timedelta(days=2), missed="all", window=1800)
    assert fire == [NOON - 20 * MINUTE, NOON - 10 * MINUTE, NOON]
    fire, _ = decided(since=timedelta(days=400), cron="* * * * *", missed="all", window=86_400)
    assert len(fire) == MAX_AT_ONCE
    assert fire[0] == NOON - timedelta(days=1) + MINUTE


def test_all_leaves_out_what_lies_before_the_window() -> None:
    assert decided(since=timedelta(days=2), now=NOON + 9 * MINUTE, missed="all", window=60) == ([], NOON)
