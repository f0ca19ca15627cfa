"""What stands still among the schedules, and the alert about it."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.current import platform_for_this_context
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.schedules.scheduler import BeatScheduler
from laneway.platform.schedules.watch import GRACE, ScheduleWatch, Standstill
from tests.fixtures.alerts import alerts_of
from tests.fixtures.platform import MovableClock, Platform

HOURLY = timedelta(hours=1)


@pytest.fixture
def watch(platform: Platform) -> ScheduleWatch:
    app: Any = platform.app
    app.conf.beat_schedule = {
        name: {"task": "cleanup_old_data_task", "schedule": HOURLY, "options": {"queue": queue}}
        for name, queue in (("first", "maintenance"), ("second", "analytics"))
    }
    platform.broker.prepare()
    return ScheduleWatch(app, platform.database)


@pytest.fixture
def beat(watch: ScheduleWatch, platform: Platform, services: Services) -> Generator[BeatScheduler]:
    """A Beat that has stored the schedules and leads."""
    beat = BeatScheduler(platform.app, max_interval=2)
    with platform_for_this_context(services):
        beat.tick()
        yield beat
        beat.close()


def due_at(platform: Platform, name: str, at: datetime) -> None:
    """Make a schedule due since then."""
    change(platform, name, next_at=at, decided_until=at - HOURLY)


def change(platform: Platform, name: str, **values: Any) -> None:
    with platform.database.transaction() as session:
        row = queries.find(session, name, lock=True)
        assert row is not None
        for column, value in values.items():
            setattr(row, column, value)


def test_nothing_stands_still_while_beat_sends(watch: ScheduleWatch, beat: BeatScheduler, platform: Platform) -> None:
    assert watch.standstills() == []
    due_at(platform, "first", clock.now() - GRACE / 2)  # due, and not yet late
    assert watch.standstills() == []


def test_a_schedule_that_was_due_and_was_not_sent_is_named(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    due_at(platform, "first", clock.now() - timedelta(minutes=10))
    (found,) = watch.standstills()
    assert found == Standstill("first", "the schedule 'first' has been due for 10 minutes and was not sent")


def test_a_schedule_that_is_paused_or_removed_is_left_out(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    due_at(platform, "first", clock.now() - 9 * HOURLY)
    due_at(platform, "second", clock.now() - 9 * HOURLY)
    change(platform, "first", paused_at=clock.now())
    change(platform, "second", removed_at=clock.now())
    assert watch.standstills() == []


def test_without_a_beat_everything_that_is_due_stands_still(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    beat.close()
    assert watch.standstills() == []  # nothing is due
    due_at(platform, "second", clock.now() - HOURLY)
    (found,) = watch.standstills()
    assert found.subject == "Beat"
    assert found.reason == "no Beat runs, and these schedules were due and not sent: second"


def test_a_schedule_that_no_beat_ever_stored_stands_still(watch: ScheduleWatch, platform: Platform) -> None:
    (found,) = watch.standstills()
    assert found.reason == "no Beat runs, and these schedules were due and not sent: first, second"
    platform.app.conf.beat_schedule = {}
    assert watch.standstills() == []


def test_a_schedule_that_was_refused_stands_still_until_it_is_sent(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform, movable_clock: MovableClock
) -> None:
    change(platform, "second", definition={"task": "cleanup_old_data_task", "every": 3600, "queue": "nowhere"})
    due_at(platform, "second", clock.now() - HOURLY)
    beat.tick()
    (found,) = watch.standstills()
    assert found.reason.startswith("the schedule 'second' was due and not sent: UnknownQueue: ")
    alerts = alerts_of(platform, schedules=watch)
    alerts.sweep()
    (message,) = [alert.message for alert in alerts.listing() if alert.kind == "schedule"]
    assert ". Beat works. Mend what the reason names: make room in a full queue" in message and ".." not in message

    change(platform, "second", definition={"task": "cleanup_old_data_task", "every": 3600})
    movable_clock.forward(3600)
    beat.tick()
    assert watch.standstills() == []


def test_a_beat_whose_lease_is_not_renewed_does_not_run(
    watch: ScheduleWatch, beat: BeatScheduler, movable_clock: MovableClock
) -> None:
    assert watch.beat_runs()
    movable_clock.forward(61)
    assert not watch.beat_runs()
    beat.tick()
    assert watch.beat_runs()


def test_a_schedule_of_an_operator_stands_still_like_any_other(watch: ScheduleWatch, platform: Platform) -> None:
    platform.app.conf.beat_schedule = {}
    now = clock.now()
    with platform.database.transaction() as session:
        session.add(
            StoredSchedule(
                key="own", source="operator", definition={}, decided_until=now, next_at=now - HOURLY, changed_at=now
            )
        )
    (found,) = watch.standstills()
    assert (found.subject, found.reason) == ("Beat", "no Beat runs, and these schedules were due and not sent: own")
    assert watch.count() == 1


def test_the_alert_opens_without_a_scheduled_sweep_and_closes_when_beat_sends_again(
    watch: ScheduleWatch, beat: BeatScheduler, platform: Platform
) -> None:
    alerts = alerts_of(platform, schedules=watch)
    alerts.watch_schedules()
    assert alerts.listing() == []
    due_at(platform, "first", clock.now() - HOURLY)

    alerts.watch_schedules()
    assert [(alert.kind, alert.subject) for alert in alerts.listing()] == [("schedule", "first")]

    beat.tick()
    alerts.watch_schedules()
    assert [alert.kind for alert in alerts.listing() if alert.kind == "schedule"] == []
