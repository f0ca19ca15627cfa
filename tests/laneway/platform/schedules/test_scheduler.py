"""Beat's scheduler while the broker goes away, comes back, forgets, or has another Beat."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from redbeat.schedulers import RedBeatSchedulerEntry, get_redis
from structlog.testing import capture_logs

from laneway.platform.schedules import scheduler as module
from laneway.platform.schedules.scheduler import RETRY_SECONDS, BeatScheduler
from tests.fixtures.platform import Platform
from tests.fixtures.server_troubles import Trouble, full, no_replicas, replica
from tests.fixtures.waiting import wait_until

DAILY = timedelta(days=1)
Make = Callable[[], BeatScheduler]


@pytest.fixture
def make(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Generator[Make]:
    """Makes a Beat with one entry, which is due now and then each day."""
    app: Any = platform.app
    monkeypatch.setattr(module, "log", module.logger("test"))
    app.conf.beat_schedule = {"chore": daily("maintenance")}
    platform.broker.prepare()
    made: list[BeatScheduler] = []

    def make_one() -> BeatScheduler:
        made.append(BeatScheduler(app, max_interval=2))
        return made[-1]

    yield make_one
    for beat in made:
        beat.close()


def daily(queue: str) -> dict[str, Any]:
    """An entry that is due now and then each day."""
    before = datetime.now(UTC) - 2 * DAILY
    return {"task": "cleanup_old_data_task", "schedule": DAILY, "last_run_at": before, "options": {"queue": queue}}


def sent(platform: Platform) -> int:
    return len(platform.messages("maintenance"))


def last_run_at(beat: BeatScheduler) -> datetime | None:
    return RedBeatSchedulerEntry.from_key("redbeat:chore", app=beat.app).last_run_at


@contextmanager
def away(platform: Platform) -> Generator[None]:
    platform.valkey.stop()
    try:
        yield
    finally:
        platform.valkey.start()


def test_what_came_due_while_the_broker_was_away_is_sent_once_when_it_is_back(platform: Platform, make: Make) -> None:
    with away(platform), capture_logs() as logs:
        beat = make()
        assert [beat.tick() for _ in range(3)] == [RETRY_SECONDS] * 3
    assert [entry["event"].startswith("The broker is away. Beat goes on") for entry in logs] == [True]

    with capture_logs() as logs:
        for _ in range(3):
            beat.tick()

    assert sent(platform) == 1
    assert sum(entry["event"].startswith("The broker is back after") for entry in logs) == 1


def test_an_entry_that_was_marked_as_sent_when_the_broker_went_away_is_sent_once_when_it_is_back(
    platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    reserve = beat.reserve

    def reserve_and_lose_the_broker(entry: RedBeatSchedulerEntry) -> RedBeatSchedulerEntry:
        reserved = reserve(entry)
        platform.valkey.stop()
        return reserved

    monkeypatch.setattr(beat, "reserve", reserve_and_lose_the_broker)
    assert beat.tick() == RETRY_SECONDS
    platform.valkey.start()
    assert last_run_at(beat) is not None

    for _ in range(3):
        beat.tick()

    assert sent(platform) == 1


def test_an_entry_whose_mark_was_lost_with_the_broker_is_sent_once(
    platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    reserve = beat.reserve

    def lose_the_broker_and_reserve(entry: RedBeatSchedulerEntry) -> RedBeatSchedulerEntry:
        monkeypatch.setattr(beat, "reserve", reserve)
        platform.valkey.stop()
        return reserve(entry)

    monkeypatch.setattr(beat, "reserve", lose_the_broker_and_reserve)
    assert beat.tick() == RETRY_SECONDS
    platform.valkey.start()

    for _ in range(3):
        beat.tick()

    assert sent(platform) == 1


def test_one_beat_sends_and_the_other_takes_over_when_it_stops_or_stands_still(platform: Platform, make: Make) -> None:
    first, second = make(), make()
    first.lock_timeout = 1
    first.tick()
    with capture_logs() as logs:
        assert [second.tick(), second.tick()] == [second.max_interval] * 2
    assert [entry["event"] for entry in logs] == ["Another Beat sends the schedules; this one waits for its lock."]

    wait_until(lambda: second.tick() and second.lock is not None, seconds=20)  # the first one stands still
    assert first.tick() == first.max_interval
    assert first.lock is None
    second.close()
    first.tick()

    assert first.lock is not None
    assert sent(platform) == 1


def test_a_beat_that_waits_for_the_lock_is_ready_again_when_the_broker_is_back(platform: Platform, make: Make) -> None:
    first, second = make(), make()
    first.tick()
    with away(platform):
        assert [first.tick(), second.tick()] == [RETRY_SECONDS] * 2
    assert second.problem == "The broker cannot be used."

    first.tick()
    assert second.tick() == second.max_interval

    assert second.lock is None
    assert second.problem is None


def test_a_schedule_that_the_broker_lost_is_stored_again_and_is_due_as_before(platform: Platform, make: Make) -> None:
    beat = make()
    beat.tick()
    at = last_run_at(beat)
    assert sent(platform) == 1

    platform.valkey.flush(0)
    beat.tick()

    assert sent(platform) == 0
    assert last_run_at(beat) == at


def check_now(beat: BeatScheduler, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tick as if it were time to look at the stored schedule; returns what Beat logs."""
    monkeypatch.setattr(beat, "_check_at", 0.0)
    with capture_logs() as logs:
        beat.tick()
    return [entry["event"] for entry in logs]


@pytest.mark.parametrize("in_memory", [True, False], ids=["this Beat sent it", "another Beat sent it"])
def test_a_mark_of_a_clock_that_was_ahead_is_corrected(
    platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool
) -> None:
    beat = make()
    beat.tick()
    ahead = datetime.now(UTC) + 2 * DAILY
    entry = RedBeatSchedulerEntry.from_key("redbeat:chore", app=beat.app)
    entry.reschedule(last_run_at=ahead)
    if in_memory:
        monkeypatch.setitem(beat._last_run_at, "chore", ahead)  # pyright: ignore[reportPrivateUsage]

    (line,) = check_now(beat, monkeypatch)

    assert line.startswith("chore is marked as sent at ")
    assert "a clock was ahead" in line
    corrected = last_run_at(beat)
    assert corrected is not None
    assert abs(datetime.now(UTC) - corrected) < timedelta(minutes=1)
    platform.valkey.flush(0)
    check_now(beat, monkeypatch)  # what is stored again does not come from the clock that was ahead
    assert (last_run_at(beat) or ahead) < datetime.now(UTC)


def test_a_small_difference_between_two_clocks_is_left_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    beat = make()
    beat.tick()
    ahead = datetime.now(UTC) + timedelta(seconds=20)
    RedBeatSchedulerEntry.from_key("redbeat:chore", app=beat.app).reschedule(last_run_at=ahead)
    assert check_now(beat, monkeypatch) == []
    assert last_run_at(beat) == ahead


@pytest.mark.parametrize("what", ["the entry", "its place in the schedule", "the entry alone", "all", "its definition"])
def test_an_entry_that_somebody_deleted_or_damaged_is_stored_again_and_is_due_as_before(
    what: str, platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    beat.tick()
    at, client = last_run_at(beat), get_redis(beat.app)
    if what in ("the entry", "the entry alone"):
        client.delete("redbeat:chore")
    if what in ("the entry", "its place in the schedule"):
        client.zrem("redbeat::schedule", "redbeat:chore")
    if what == "its definition":
        client.hset("redbeat:chore", "definition", "[not JSON")
    if what == "all":
        client.delete("redbeat:chore", "redbeat::schedule", "redbeat::statics")

    assert any(line.startswith("Stored again") for line in check_now(beat, monkeypatch))

    assert last_run_at(beat) == at
    assert client.zscore("redbeat::schedule", "redbeat:chore") is not None
    assert check_now(beat, monkeypatch) == []
    assert sent(platform) == 1


def test_a_damaged_entry_of_somebody_else_stops_neither_beat_nor_the_other_entries(
    platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    beat.tick()
    client = get_redis(beat.app)
    client.hset("redbeat:strange", mapping={"definition": '{"name": "strange", "schedule": 5}', "meta": "[]"})
    client.zadd("redbeat::schedule", {"redbeat:strange": 0})
    client.delete("redbeat:chore")
    monkeypatch.setattr(beat, "_last_run_at", {})
    before = datetime.now(UTC) - 2 * DAILY
    beat.app.conf.beat_schedule["chore"]["last_run_at"] = before

    check_now(beat, monkeypatch)
    beat.tick()

    assert client.zscore("redbeat::schedule", "redbeat:chore") is not None
    assert sent(platform) == 2


@pytest.mark.parametrize("trouble", [no_replicas, replica, full])
def test_what_came_due_while_the_server_refused_is_sent_once(trouble: Trouble, platform: Platform, make: Make) -> None:
    beat = make()
    with redis.Redis(port=platform.valkey.port) as admin, trouble(admin, platform.valkey.folder):
        assert [beat.tick() for _ in range(3)] == [RETRY_SECONDS] * 3
    for _ in range(3):
        beat.tick()
    assert sent(platform) == 1


def test_an_entry_that_cannot_be_sent_stops_neither_beat_nor_the_other_entries(
    platform: Platform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = platform.app
    app.conf.beat_schedule |= {"a-bad": daily("no such queue"), "b-full": daily("analytics")}
    platform.engine.set_max_size("analytics", 0)
    beat = make()

    with capture_logs() as logs:
        for _ in range(2):
            beat.tick()

    assert sent(platform) == 1
    assert sorted(entry["event"].partition(":")[0] for entry in logs if entry["log_level"] == "error") == [
        "Due task a-bad not sent",
        "Due task b-full refused",
    ]


def test_a_beat_that_stops_while_the_broker_is_away_ends_without_an_error(platform: Platform, make: Make) -> None:
    beat = make()
    beat.tick()
    with away(platform), capture_logs() as logs:
        beat.close()
        beat.close()
    assert [entry["log_level"] for entry in logs] == ["warning"]
