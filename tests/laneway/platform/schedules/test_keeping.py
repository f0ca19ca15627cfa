"""The schedules of the code in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from laneway.platform import clock
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database
from laneway.platform.schedules.entry import Schedule
from laneway.platform.schedules.keeping import keep
from tests.fixtures.platform import MovableClock

HOURLY = Schedule("sweep", "sweep_task", crontab(minute=0), "maintenance", 60)


@pytest.fixture
def database(platform_database: Database) -> Database:
    return platform_database


def entries(*schedules: Schedule) -> dict[str, dict[str, Any]]:
    return {schedule.key: schedule.as_celery() for schedule in schedules}


def row(database: Database, key: str = "sweep") -> StoredSchedule:
    with database.reading() as session:
        found = queries.find(session, key)
    assert found is not None
    return found


def active(database: Database) -> list[str]:
    with database.reading() as session:
        return [each.key for each in queries.active(session)]


def test_what_the_code_lists_is_stored_and_due_from_now_on(database: Database) -> None:
    keep(database, entries(HOURLY))
    stored = row(database)
    assert stored.definition == {"task": "sweep_task", "cron": "0 * * * *", "queue": "maintenance", "expires": 60.0}
    assert stored.next_at is not None
    assert clock.now() < stored.next_at <= clock.now() + timedelta(hours=1)
    before = stored.decided_until
    keep(database, entries(HOURLY))
    assert row(database).decided_until == before


def test_a_schedule_that_the_code_does_not_list_any_more_stops_and_comes_back_without_making_anything_up(
    database: Database, movable_clock: MovableClock
) -> None:
    keep(database, entries(HOURLY))
    keep(database, {})
    assert (active(database), row(database).next_at) == ([], None)
    movable_clock.forward(7200)
    keep(database, entries(HOURLY))
    assert active(database) == ["sweep"]
    assert row(database).next_at > clock.now()  # pyright: ignore[reportOptionalOperand]


def test_a_pause_survives_a_change_of_the_code(database: Database) -> None:
    keep(database, entries(HOURLY))
    with database.transaction() as session:
        stored = queries.find(session, "sweep", lock=True)
        assert stored is not None
        stored.paused_at, stored.paused_by = clock.now(), "ann"
    keep(database, entries(Schedule("sweep", "sweep_task", crontab(minute=5), "maintenance", 60)))
    assert (row(database).paused_by, row(database).definition["cron"]) == ("ann", "5 * * * *")
    assert active(database) == []


def test_a_schedule_keeps_its_place_when_only_its_payload_changes(
    database: Database, movable_clock: MovableClock
) -> None:
    keep(database, entries(HOURLY))
    before = row(database).decided_until
    movable_clock.forward(7200)
    keep(database, entries(Schedule("sweep", "sweep_task", crontab(minute=0), "maintenance", 60, {"days": 3})))
    assert row(database).decided_until == before
    keep(database, entries(Schedule("sweep", "sweep_task", crontab(minute=1), "maintenance", 60)))
    assert row(database).decided_until > before


def test_what_cannot_be_kept_has_its_reason_and_is_kept_when_it_is_mended(database: Database) -> None:
    keep(database, entries(HOURLY))
    keep(database, entries(Schedule("sweep", "sweep_task", crontab(), "maintenance", 60, timezone="Mars")))
    assert "no time zone 'Mars'" in (row(database).problem or "")
    assert row(database).next_at is None
    keep(database, entries(HOURLY))
    assert row(database).problem is None
    assert row(database).next_at is not None


def test_a_long_key_is_refused(database: Database) -> None:
    key = "x" * 101
    keep(database, entries(Schedule(key, "sweep_task", crontab(), "maintenance", 60)))
    assert "is longer than 100 characters" in (row(database, key[:100]).problem or "")


def test_a_schedule_of_an_operator_stays_beside_those_of_the_code(database: Database) -> None:
    now = clock.now()
    with database.transaction() as session:
        session.add(
            StoredSchedule(
                key="own", source="operator", definition={"task": "t", "every": 60}, decided_until=now, changed_at=now
            )
        )
    keep(database, entries(HOURLY))
    keep(database, {})
    assert active(database) == ["own"]
