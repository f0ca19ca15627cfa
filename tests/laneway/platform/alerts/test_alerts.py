"""Alerts open once when a condition becomes wrong, and close when it is right again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from laneway.platform.alerts.alerts import Alerts
from laneway.platform.execution.outcomes import Raised
from tests.fixtures.alerts import alerts_of, serve
from tests.fixtures.platform import MovableClock, Platform

WORKER = "Start a worker: `laneway worker --queue maintenance`."


@pytest.fixture
def alerts(platform: Platform) -> Alerts:
    """Alerts with low thresholds: three waiting tasks, two failures; new errors are none."""
    return alerts_of(platform, backlog=3, failures=2, severities={"new_errors": "off"})


def test_a_quiet_platform_has_no_alerts(alerts: Alerts) -> None:
    assert alerts.sweep() == {"open": 0, "opened": [], "closed": []}
    assert alerts.listing() == []


def test_a_queue_without_a_worker_is_an_alert_until_a_worker_serves_it(platform: Platform, alerts: Alerts) -> None:
    platform.chore()

    assert alerts.sweep()["opened"] == [
        f"1 task waits in the queue 'maintenance', which no live worker serves. {WORKER}"
    ]
    assert found(alerts) == [("no_worker", "maintenance")]
    serve(platform, "maintenance")
    assert alerts.sweep()["closed"] == ["no_worker maintenance"]
    assert found(alerts) == []


def test_a_worker_that_fell_silent_is_an_alert(platform: Platform, alerts: Alerts, movable_clock: MovableClock) -> None:
    serve(platform, "maintenance")
    platform.chore()
    assert alerts.sweep()["open"] == 0
    movable_clock.forward(30)

    alerts.sweep()

    assert found(alerts) == [("no_worker", "maintenance")]


def test_a_queue_that_reaches_the_threshold_is_an_alert(platform: Platform, alerts: Alerts) -> None:
    serve(platform, "maintenance")
    platform.chore(), platform.chore()
    platform.chore(delay=3600)  # it waits for its time, not for a worker
    assert alerts.sweep()["open"] == 0
    third = platform.chore()

    alerts.sweep()
    assert found(alerts) == [("backlog", "maintenance")]
    platform.tasks.cancel(third)
    alerts.sweep()
    assert found(alerts) == []


def test_a_task_that_keeps_failing_is_an_alert_for_an_hour(
    platform: Platform, alerts: Alerts, movable_clock: MovableClock
) -> None:
    fail(platform)
    assert alerts.sweep()["open"] == 0
    fail(platform)

    (opened,) = alerts.sweep()["opened"]
    assert opened.startswith("cleanup_old_data_task failed for good 2 times within an hour. See why: ")
    assert opened.endswith("then `laneway dead requeue --name cleanup_old_data_task --failed`.")
    movable_clock.forward(3700)
    assert alerts.sweep()["closed"] == ["failures cleanup_old_data_task"]


def test_retries_completions_and_cancels_do_not_count_as_failures(platform: Platform, alerts: Alerts) -> None:
    for _ in range(3):
        platform.chore()
        assert platform.work("maintenance")
        platform.tasks.cancel(platform.chore())
    serve(platform, "maintenance")
    platform.chore()
    assert platform.work("maintenance", Raised(OSError("away")))

    assert alerts.sweep()["open"] == 0


def test_an_open_alert_is_opened_once_and_kept_up_to_date(platform: Platform, alerts: Alerts) -> None:
    platform.chore()
    alerts.sweep()
    platform.chore()

    assert alerts.sweep() == {"open": 1, "opened": [], "closed": []}
    (alert,) = alerts.listing()
    assert alert.message.startswith("2 tasks wait")


def test_an_alert_that_comes_back_soon_is_the_same_one_and_later_a_new_one(
    platform: Platform, alerts: Alerts, movable_clock: MovableClock
) -> None:
    for minutes in (0, 4, 6):
        movable_clock.forward(60 * minutes)
        id = platform.chore()
        alerts.sweep()
        platform.tasks.cancel(id)
        alerts.sweep()

    assert found(alerts) == []
    assert [alert.kind for alert in alerts.listing(closed=True)] == ["no_worker", "no_worker"]


def test_several_sweeps_at_once_open_one_alert(platform: Platform, alerts: Alerts) -> None:
    platform.chore()
    together = Barrier(4)

    def sweep(_: int) -> int:
        together.wait(10)
        return len(alerts.sweep()["opened"])

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep, range(4))) == 1
    assert len(alerts.listing(closed=True)) == 1


def found(alerts: Alerts) -> list[tuple[str, str]]:
    return [(alert.kind, alert.subject) for alert in alerts.listing()]


def fail(platform: Platform) -> None:
    platform.chore()
    assert platform.work("maintenance", Raised(ValueError("wrong")))
