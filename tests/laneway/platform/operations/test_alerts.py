"""Alerts open once when a condition becomes wrong, and close when it is right again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from app.core.settings import MailSettings
from app.services.integrations.alert_mail import AlertMail
from app.services.integrations.mail import Mail
from laneway.platform import clock
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.queries import workers
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import UpstreamError
from laneway.platform.execution.outcomes import Raised
from laneway.platform.operations.alerts import Alerts
from laneway.platform.operations.intake import Intake
from laneway.schemas.alert import AlertsOpened
from tests.fixtures.mail_server import MailServer
from tests.fixtures.platform import MovableClock, Platform


@pytest.fixture
def alerts(platform: Platform) -> Alerts:
    """Alerts with low thresholds: three waiting tasks, two failures."""
    limits = platform.settings.operation.model_copy(update={"alert_backlog": 3, "alert_failures": 2})
    return Alerts(platform.database, platform.tasks, limits, intake=Intake(platform.broker))


def test_a_quiet_platform_has_no_alerts(alerts: Alerts) -> None:
    assert alerts.sweep() == {"open": 0, "opened": [], "closed": []}
    assert alerts.listing() == []


def test_a_queue_without_a_worker_is_an_alert_until_a_worker_serves_it(platform: Platform, alerts: Alerts) -> None:
    platform.chore()

    assert alerts.sweep()["opened"] == ["1 task waits in the queue 'maintenance', which no live worker serves"]
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
    platform.chore()
    platform.chore(delay=60)
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

    assert alerts.sweep()["opened"] == ["cleanup_old_data_task failed for good 2 times within an hour"]
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


def test_an_alert_that_comes_back_is_a_new_one(platform: Platform, alerts: Alerts) -> None:
    for _ in range(2):
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


# --- e-mail


@pytest.fixture
def notifying(platform: Platform) -> Alerts:
    """The same alerts, with notices by e-mail."""
    limits = platform.settings.operation.model_copy(update={"alert_backlog": 3, "alert_failures": 2})
    return Alerts(platform.database, platform.tasks, limits, intake=Intake(platform.broker), with_notices=True)


def notices(platform: Platform) -> list[AlertsOpened]:
    """Return the payloads of the tasks that send e-mails about alerts."""
    tasks = platform.tasks.search(Filter(name="send_alert_mail_task"))[0]
    return [AlertsOpened.model_validate(platform.row(task.task_id).payload) for task in tasks]


def test_without_recipients_no_notice_is_queued(platform: Platform, alerts: Alerts) -> None:
    platform.chore()
    alerts.sweep()

    assert notices(platform) == []


def test_each_alert_is_notified_once_even_if_the_sweep_did_not_open_it(platform: Platform, notifying: Alerts) -> None:
    platform.chore()
    notifying.sweep()
    with platform.database.transaction() as session:
        repository.open_alert(session, "failures", subject="qa", message="failed", now=clock.now())
        other = [alert.id for alert in repository.listing(session) if alert.kind == "failures"]
    fail(platform), fail(platform)
    notifying.sweep()
    notifying.sweep()

    (one,) = [alert.id for alert in notifying.listing(closed=True) if alert.kind == "no_worker"]
    notified = [id for notice in notices(platform) for id in notice.alerts]
    assert notified.count(one) == 1
    assert len(notified) == len(set(notified))
    assert not set(other) & set(notified), "it was closed before it could be notified"


def test_an_alert_that_opens_and_closes_often_is_notified_once_an_hour(
    platform: Platform, notifying: Alerts, movable_clock: MovableClock
) -> None:
    serve(platform, "maintenance")
    for _ in range(3):
        id = platform.message()
        notifying.sweep()
        platform.tasks.cancel(id)
        notifying.sweep()
    assert len(notices(platform)) == 1

    movable_clock.forward(3700)
    serve(platform, "maintenance")
    platform.message()
    notifying.sweep()
    assert len(notices(platform)) == 2


def test_every_recipient_gets_one_email_about_the_alerts(platform: Platform, notifying: Alerts) -> None:
    platform.chore()
    notifying.sweep()
    (event,) = notices(platform)
    kept: dict[str, Any] = {}

    def step(name: str, work: Any, *values: Any) -> None:
        if name not in kept:
            kept[name] = work(*values)

    with MailServer() as server:
        given = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": server.port,
            "MAIL_FROM": "laneway@example.com",
            "ALERT_MAIL_TO": "one@example.com, two@example.com",
        }
        settings = MailSettings.model_validate(given)
        mail = AlertMail(platform.database, Mail(settings), settings)
        server.answer_next("RCPT", "450 later")
        with pytest.raises(UpstreamError, match="450 later"):
            mail.send(event, task_id="t-1", step=step)
        assert mail.send(event, task_id="t-1", step=step) == {
            "sent_to": ["one@example.com", "two@example.com"],
            "alerts": 1,
        }

    assert [arrived.to for arrived in server.arrived] == [("two@example.com",), ("one@example.com",)]
    message = server.arrived[0].message
    assert message["Subject"].strip() == "Alert: 1 task waits in the queue 'maintenance', which no live worker serves"
    assert "which no live worker serves" in server.arrived[0].text


def found(alerts: Alerts) -> list[tuple[str, str]]:
    return [(alert.kind, alert.subject) for alert in alerts.listing()]


def serve(platform: Platform, *queues: str) -> None:
    now = clock.now()
    with platform.database.transaction() as session:
        workers.report(session, "w1", id="w1", queues=queues, started_at=now, now=now)


def fail(platform: Platform) -> None:
    platform.chore()
    assert platform.work("maintenance", Raised(ValueError("wrong")))
