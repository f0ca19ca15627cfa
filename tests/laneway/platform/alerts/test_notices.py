"""An alert is told when it opens, reminded of, and its end is told; what can wait is held in quiet hours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from laneway.platform import clock
from laneway.platform.alerts.alerts import Alerts
from laneway.platform.alerts.notices import compose
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.queries.search import Filter
from laneway.schemas.alert import AlertNotice
from tests.fixtures.alerts import alerts_of, serve
from tests.fixtures.platform import MovableClock, Platform

RECEIVERS = {"ops": SecretStr("json://localhost/secret"), "chat": SecretStr("json://localhost/other-secret")}
HOUR = 3600


class Told:
    """What was submitted for the receiver `ops` since the last call."""

    def __init__(self, platform: Platform, alerts: Alerts) -> None:
        self._platform, self.alerts, self._seen = platform, alerts, 0

    def all(self) -> list[AlertNotice]:
        tasks = self._platform.tasks.search(Filter(name="tell_about_alerts_task"), limit=500)[0]
        return [AlertNotice.model_validate(self._platform.row(task.task_id).payload) for task in reversed(tasks)]

    def after_sweep(self) -> list[tuple[int, int, int]]:
        """The numbers of opened, reminded and ended alerts in each new notice."""
        self.alerts.sweep()
        mine = [notice for notice in self.all() if notice.receiver == "ops"]
        new, self._seen = mine[self._seen :], len(mine)
        return [(len(notice.opened), len(notice.reminded), len(notice.ended)) for notice in new]


@pytest.fixture
def told(platform: Platform, movable_clock: MovableClock) -> Told:
    """The notices' own tasks, which nobody runs here, open no alert."""
    serve(platform, "maintenance")
    return Told(platform, alerts_of(platform, receivers=RECEIVERS, backlog=1000, oldest_seconds=10**9))


def stopped(platform: Platform) -> str:
    """A task in a queue that no worker serves: a severe alert."""
    return platform.message()


def test_without_receivers_nothing_is_told(platform: Platform) -> None:
    told = Told(platform, alerts_of(platform, receivers={}))
    stopped(platform)

    assert told.after_sweep() == [] and told.all() == []


def test_each_receiver_is_told_by_a_task_of_its_own_without_its_address(platform: Platform, told: Told) -> None:
    stopped(platform)
    told.alerts.sweep()

    assert sorted(notice.receiver for notice in told.all()) == ["chat", "ops"]
    assert "secret" not in str([row.payload for row in platform.rows()])


def test_an_alert_is_told_once_then_reminded_of_and_its_end_is_told_when_it_is_sure(
    platform: Platform, told: Told, movable_clock: MovableClock
) -> None:
    id = stopped(platform)
    assert told.after_sweep() == [(1, 0, 0)]
    assert told.after_sweep() == []
    for _ in range(2):
        movable_clock.forward(3.9 * HOUR)
        serve(platform, "maintenance")
        assert told.after_sweep() == []
        movable_clock.forward(0.2 * HOUR)
        serve(platform, "maintenance")
        assert told.after_sweep() == [(0, 1, 0)]
    platform.tasks.cancel(id)
    assert told.after_sweep() == []
    movable_clock.forward(301)
    serve(platform, "maintenance")

    assert told.after_sweep() == [(0, 0, 1)]
    assert told.after_sweep() == []


def test_an_alert_that_comes_and_goes_within_minutes_is_told_once(
    platform: Platform, told: Told, movable_clock: MovableClock
) -> None:
    notices: list[tuple[int, int, int]] = []
    for _ in range(5):
        id = stopped(platform)
        notices += told.after_sweep()
        platform.tasks.cancel(id)
        notices += told.after_sweep()
        movable_clock.forward(120)
        serve(platform, "maintenance")

    assert notices == [(1, 0, 0)]


def test_the_same_problem_is_told_as_new_at_most_once_an_hour(
    platform: Platform, told: Told, movable_clock: MovableClock
) -> None:
    notices: list[tuple[int, int, int]] = []
    for _ in range(6):  # ten minutes apart: each is an alert of its own
        id = stopped(platform)
        notices += told.after_sweep()
        platform.tasks.cancel(id)
        told.alerts.sweep()
        movable_clock.forward(600)
        serve(platform, "maintenance")
        notices += told.after_sweep()

    assert notices == [(1, 0, 0), (0, 0, 1)]
    stopped(platform)
    assert told.after_sweep() == [(1, 0, 0)]


def test_an_alert_that_was_closed_before_it_was_told_is_told_to_nobody(platform: Platform, told: Told) -> None:
    with platform.database.transaction() as session:
        repository.open_alert(session, "failures", subject="qa", message="failed", now=clock.now())

    assert told.after_sweep() == []


def test_reminders_can_be_switched_off(platform: Platform, movable_clock: MovableClock) -> None:
    serve(platform, "maintenance")
    told = Told(platform, alerts_of(platform, receivers=RECEIVERS, remind_hours=0, oldest_seconds=10**9))
    stopped(platform)
    assert told.after_sweep() == [(1, 0, 0)]
    movable_clock.forward(100 * HOUR)
    serve(platform, "maintenance")
    assert told.after_sweep() == []


def night(movable_clock: MovableClock, hour: int) -> None:
    """Move the clock to the next time with this hour, UTC."""
    now = clock.now()
    then = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    movable_clock.forward((then - now).total_seconds() % (24 * HOUR))


def test_in_quiet_hours_severe_alerts_are_told_and_the_others_together_afterwards(
    platform: Platform, movable_clock: MovableClock
) -> None:
    night(movable_clock, 23)
    serve(platform, "maintenance", "crm")
    quiet = {"quiet_hours": "22:00-07:00", "remind_hours": 0, "oldest_seconds": 10**9}
    told = Told(platform, alerts_of(platform, receivers=RECEIVERS, backlog=1, **quiet))
    waiting = [platform.chore(delay=10**6)]
    assert told.after_sweep() == [], "a backlog can wait until the morning"
    stopped(platform)
    assert told.after_sweep() == [(1, 0, 0)], "no worker: severe; its backlog waits"
    platform.tasks.cancel(waiting[0])
    told.alerts.sweep()

    night(movable_clock, 6)
    serve(platform, "maintenance", "crm")
    assert told.after_sweep() == []
    night(movable_clock, 8)
    serve(platform, "maintenance", "crm")
    assert told.after_sweep()[0][0] >= 2, "also the backlog that came and went in the night"
    told.alerts.sweep()
    assert all(not notice.ended for notice in told.all()), "it was told as over"


def test_a_severity_of_the_settings_is_told_at_night(platform: Platform, movable_clock: MovableClock) -> None:
    night(movable_clock, 23)
    serve(platform, "maintenance")
    given: dict[str, Any] = {"quiet_hours": "22:00-07:00", "severities": {"backlog": "severe", "no_worker": "low"}}
    told = Told(platform, alerts_of(platform, receivers=RECEIVERS, backlog=1, **given))
    stopped(platform)

    assert told.after_sweep() == [(1, 0, 0)]
    (notice, *_) = told.all()
    (alert,) = (alert for alert in told.alerts.listing() if alert.id in notice.opened)
    assert alert.kind == "backlog"


AT = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)


def alert(message: str, *, closed: bool = False) -> Alert:
    return Alert(id=1, kind="x", subject="y", message=message, opened_at=AT, closed_at=AT if closed else None)


def test_the_text_names_what_is_new_what_is_still_open_and_what_is_over() -> None:
    text = compose(
        [alert("a is wrong\r\nBcc: x@y. Do b."), alert("gone", closed=True)],
        [alert("still")],
        [alert("over", closed=True)],
        severe=True,
        address="https://tasks.example.com",
    )

    assert text.title == "Alert: a is wrong Bcc: x@y. Do b. (and 3 more)"
    assert text.kind == "failure"
    assert text.body.splitlines()[:4] == [
        "New:",
        "- 2026-05-01 10:00 UTC  a is wrong Bcc: x@y. Do b.",
        "- 2026-05-01 10:00 UTC  gone (over since 2026-05-01 10:00 UTC)",
        "",
    ]
    assert "Still open:\n- 2026-05-01 10:00 UTC  still" in text.body and "https://tasks.example.com" in text.body


def test_the_end_of_alerts_is_good_news() -> None:
    text = compose([], [], [alert("x", closed=True)], severe=False, address=None)

    assert (text.kind, text.title) == ("success", "Over: x")


def test_long_messages_are_cut() -> None:
    text = compose([alert("x" * 5000)], [], [], severe=False, address=None)

    assert len(text.title) < 200 and len(text.body) < 1200
