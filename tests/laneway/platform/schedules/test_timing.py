"""When schedules are due: rules that hold for all times and zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.platform.schedules.timing import BadTiming, Timing, check_cron, zone
from tests.fixtures.budget import budget

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu")
FIRST, LAST = datetime.fromisoformat("2001-01-01"), datetime.fromisoformat("2037-12-31")
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.just(UTC))
BERLIN = ZoneInfo("Europe/Berlin")


def numbers(first: int, last: int) -> st.SearchStrategy[str]:
    some = st.lists(st.integers(first, last), min_size=1, max_size=3, unique=True)
    return st.one_of(
        st.just("*"), st.sampled_from(["*/2", "*/15"]), some.map(lambda found: ",".join(map(str, sorted(found))))
    )


CRONS = st.builds(
    "{} {} {} {} {}".format,
    numbers(0, 59),
    numbers(0, 23),
    st.one_of(st.just("*"), st.sampled_from(["1", "15", "*/7", "L"])),
    st.one_of(st.just("*"), st.sampled_from(["1", "2,8", "10-12"])),
    st.one_of(st.just("*"), st.sampled_from(["0", "1-5", "sun", "7"])),
)


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    start = draw(st.one_of(st.none(), MOMENTS))
    jitter = timedelta(seconds=draw(st.sampled_from([0, 0, 5, 600, 86_400])))
    if draw(st.booleans()):
        every = timedelta(milliseconds=draw(st.integers(1000, 10**8)))
        return Timing("key", every=every, start=start, jitter=min(jitter, every))
    return Timing("key", cron=draw(CRONS), timezone=draw(st.sampled_from(ZONES)), start=start, jitter=jitter)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(timings(), MOMENTS)
def test_due_times_are_in_order_and_the_same_from_wherever_they_are_counted(timing: Timing, after: datetime) -> None:
    upcoming = timing.upcoming(after, 12)
    assert all(due.tzinfo is UTC for due in upcoming)
    assert upcoming == sorted(set(upcoming))
    assert all(due > after for due in upcoming)
    for number, due in enumerate(upcoming):
        assert timing.next(due) == (upcoming[number + 1] if number < 11 else timing.next(due))
        assert timing.next(due - timedelta(seconds=0.5)) == due
    assert all(timing.start is None or due >= timing.start for due in upcoming)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(timings(), MOMENTS, st.integers(0, 11))
def test_the_last_due_time_is_the_one_before_the_next(timing: Timing, after: datetime, number: int) -> None:
    upcoming = timing.upcoming(after, 12)
    if number >= len(upcoming) or upcoming[number] > after + timedelta(days=9000):
        return
    due = upcoming[number]
    assert timing.latest(after, due) == due
    assert timing.latest(after, due - timedelta(microseconds=1)) == (upcoming[number - 1] if number else None)
    assert timing.latest(due, due) is None


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(timings(), MOMENTS)
def test_jitter_is_fixed_and_keeps_the_order(timing: Timing, after: datetime) -> None:
    upcoming = timing.upcoming(after, 8)
    acts = [timing.acts_at(due) for due in upcoming]
    assert acts == sorted(acts)
    for due, at in zip(upcoming, acts, strict=True):
        assert due <= at <= due + timing.jitter
        assert timing.acts_at(due) == at
    for number, at in enumerate(acts[:-1]):
        assert timing.latest_to_act(after, at) == upcoming[number]
        assert timing.latest_to_act(upcoming[number], at) is None


def test_two_schedules_with_jitter_do_not_act_together() -> None:
    due = datetime(2026, 1, 1, tzinfo=UTC)
    acts = {Timing(f"key-{n}", cron="0 * * * *", jitter=timedelta(minutes=9)).acts_at(due) for n in range(50)}
    assert len(acts) == 50
    assert max(acts) - min(acts) > timedelta(minutes=7)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(ZONES), MOMENTS)
def test_a_daily_schedule_is_due_once_a_day_at_its_local_time(hour: int, minute: int, name: str, at: datetime) -> None:
    timing = Timing("key", cron=f"{minute} {hour} * * *", timezone=name)
    days = [due.astimezone(ZoneInfo(name)) for due in timing.upcoming(at, 30)]
    assert [day.date() for day in days] == [days[0].date() + timedelta(days=n) for n in range(30)]
    shifted = [day for day in days if (day.hour, day.minute) != (hour, minute)]
    assert all(day.utcoffset() != (day - timedelta(hours=3)).utcoffset() for day in shifted)


def test_an_hour_that_is_left_out_and_one_that_comes_twice() -> None:
    daily = Timing("key", cron="30 2 * * *", timezone="Europe/Berlin")
    spring = daily.upcoming(datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert spring == [datetime(2026, 3, 29, 3, tzinfo=BERLIN), datetime(2026, 3, 30, 2, 30, tzinfo=BERLIN)]
    autumn = daily.upcoming(datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert autumn == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]
    second_hour = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert daily.next(second_hour) == datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN)
    hourly = Timing("key", cron="*/30 * * * *", timezone="Europe/Berlin")
    dues = hourly.upcoming(datetime(2026, 10, 24, 23, 59, tzinfo=UTC), 6)
    assert [later - due for due, later in pairwise(dues)] == [timedelta(minutes=30)] * 5


def test_start_and_end_are_due_times_themselves() -> None:
    start, end = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, 50, tzinfo=UTC)
    timing = Timing("key", every=timedelta(seconds=40), start=start, end=end)
    before = start - timedelta(days=400)
    assert timing.upcoming(before, 9) == [start, start + timedelta(seconds=40), end]
    assert timing.latest(before, end + timedelta(days=400)) == end
    assert timing.next(end) is None
    assert Timing("key", cron="0 0 * * *", start=start, end=end).next(before) is None


def test_an_interval_without_a_start_is_the_same_after_every_restart() -> None:
    timing = Timing("key", every=timedelta(hours=1))
    assert timing.next(datetime(2026, 1, 1, 10, 20, tzinfo=UTC)) == datetime(2026, 1, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("0 0 30 2 *", "is no cron expression: bad day-of-month"),
        ("61 * * * *", "is no cron expression: bad minute"),
        ("* * * *", "must have five fields"),
        ("0 * * * * *", "must have five fields"),
        ("; DROP * * *", "is no cron expression: bad minute"),
        ("", "must have five fields"),
    ],
)
def test_a_bad_expression_is_refused(expression: str, problem: str) -> None:
    with pytest.raises(BadTiming, match=problem):
        check_cron(expression)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "", "europe/berlin"])
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(BadTiming, match="use a name of the IANA database"):
        zone(name)
