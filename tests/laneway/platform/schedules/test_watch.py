"""What stands still in Beat's schedule, and the alert about it."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redbeat.schedulers import RedBeatSchedulerEntry, get_redis

from laneway.platform.schedules.scheduler import BeatScheduler
from laneway.platform.schedules.watch import GRACE, ScheduleWatch, Standstill
from tests.fixtures.alerts import alerts_of
from tests.fixtures.platform import Platform

HOURLY = timedelta(hours=1)


@pytest.fixture
def watch(platform: Platform) -> ScheduleWatch:
    app: Any = platform.app
    app.conf.beat_schedule = {
        name: {"task": "cleanup_old_data_task", "schedule": HOURLY, "options": {"queue": queue}}
        for name, queue in (("first", "maintenance"), ("second", "analytics"))
    }
    platform.broker.prepare()
    return ScheduleWatch(app)


@pytest.fixture
def beat(watch: ScheduleWatch, platform: Platform) -> Generator[BeatScheduler]:
    """A Beat that has stored the schedule and holds the lock."""
    beat = BeatScheduler(platform.app, max_interval=2)
    beat.tick()
    yield beat
    beat.close()


def sent_at(beat: BeatScheduler, name: str, at: datetime) -> None:
    RedBeatSchedulerEntry.from_key(f"redbeat:{name}", app=beat.app).reschedule(last_run_at=at)


def test_nothing_stands_still_while_beat_sends(watch: ScheduleWatch, beat: BeatScheduler) -> None:
    assert watch.standstills() == []
    sent_at(beat, "first", datetime.now(UTC) - HOURLY - GRACE / 2)  # due, and not yet late
    assert watch.standstills() == []


def test_an_entry_that_was_due_and_was_not_sent_is_named(watch: ScheduleWatch, beat: BeatScheduler) -> None:
    sent_at(beat, "first", datetime.now(UTC) - HOURLY - timedelta(minutes=10))
    (found,) = watch.standstills()
    assert found == Standstill("first", "the schedule 'first' has been due for 10 minutes and was not sent")


def test_an_entry_that_is_switched_off_is_left_out(watch: ScheduleWatch, beat: BeatScheduler) -> None:
    entry = RedBeatSchedulerEntry.from_key("redbeat:first", app=beat.app)
    entry.enabled = False
    entry.save()
    sent_at(beat, "first", datetime.now(UTC) - 9 * HOURLY)
    assert watch.standstills() == []


def test_without_a_beat_everything_that_is_due_stands_still(watch: ScheduleWatch, beat: BeatScheduler) -> None:
    beat.close()
    assert watch.standstills() == []  # nothing is due
    sent_at(beat, "second", datetime.now(UTC) - 2 * HOURLY)
    (found,) = watch.standstills()
    assert found.subject == "Beat"
    assert found.reason == "no Beat runs, and these schedules were due and not sent: second"


def test_a_schedule_that_no_beat_ever_stored_stands_still(watch: ScheduleWatch, platform: Platform) -> None:
    (found,) = watch.standstills()
    assert found.reason == "no Beat runs, and these schedules were due and not sent: first, second"
    platform.app.conf.beat_schedule = {}
    assert watch.standstills() == []


def test_an_entry_that_was_refused_stands_still_until_it_is_sent(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    platform.engine.set_max_size("analytics", 0)
    sent_at(beat, "second", datetime.now(UTC) - 2 * HOURLY)
    beat.tick()
    (found,) = watch.standstills()
    assert found.reason.startswith("the schedule 'second' was due and not sent: QueueFull: ")
    alerts = alerts_of(platform, schedules=watch)
    alerts.sweep()
    (message,) = [alert.message for alert in alerts.listing() if alert.kind == "schedule"]
    assert ". Beat works. Mend what the reason names: make room in a full queue" in message and ".." not in message

    platform.engine.set_max_size("analytics", 10)
    sent_at(beat, "second", datetime.now(UTC) - 2 * HOURLY)
    beat.tick()
    assert watch.standstills() == []


@pytest.mark.parametrize("field", ["definition", "meta"])
def test_a_damaged_entry_does_not_hide_the_others(field: str, watch: ScheduleWatch, beat: BeatScheduler) -> None:
    get_redis(beat.app).hset("redbeat:first", field, "[]")
    sent_at(beat, "second", datetime.now(UTC) - 2 * HOURLY)
    assert [found.subject for found in watch.standstills()] == ["second"]


def test_the_alert_opens_without_a_scheduled_sweep_and_closes_when_beat_sends_again(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    alerts = alerts_of(platform, schedules=watch)
    alerts.watch_schedules()
    assert alerts.listing() == []
    sent_at(beat, "first", datetime.now(UTC) - 2 * HOURLY)

    alerts.watch_schedules()
    assert [(alert.kind, alert.subject) for alert in alerts.listing()] == [("schedule", "first")]

    beat.tick()
    alerts.watch_schedules()
    assert [alert.kind for alert in alerts.listing() if alert.kind == "schedule"] == []


def test_while_the_broker_is_away_an_alert_about_a_schedule_stays_as_it_is(
    watch: ScheduleWatch, platform: Platform
) -> None:
    alerts = alerts_of(platform, schedules=watch)
    alerts.sweep()
    (before,) = alerts.listing()
    assert before.message.endswith("If it runs, its log says why it does not send.")
    platform.valkey.stop()
    try:
        assert alerts.sweep()["closed"] == []
    finally:
        platform.valkey.start()
    (after,) = alerts.listing()
    assert (after.id, after.message) == (before.id, before.message)
