"""Messages in queues that the application does not declare are seen: in the figures, the audit and the alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

import laneway
from app.services.container import Services
from laneway.api.routers.tasks import gather_stats
from laneway.engine import Message
from laneway.platform.db.session import Database
from laneway.platform.operations import unknown_queues as module
from laneway.platform.operations.unknown_queues import UnknownQueues
from tests.fixtures.platform import Platform

KNOWN = "crm_notify"


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def old_queue(platform: Platform) -> str:
    """A queue that was renamed and still holds tasks."""
    for number in range(3):
        platform.engine.put("crm-before", Message(id=f"m-{number}", task_id=f"m-{number}", name=KNOWN, body=b"{}"))
    return "crm-before"


def test_a_queue_that_was_renamed_is_listed_with_its_tasks_and_what_to_do(platform: Platform, old_queue: str) -> None:
    (found,) = UnknownQueues(platform.broker).listing()

    assert (found.queue, found.waiting, found.running, found.dead, found.tasks) == (old_queue, 3, 0, 0, [KNOWN])
    assert found.oldest_at is not None
    assert datetime.now(UTC) - found.oldest_at < timedelta(minutes=1)
    assert "`laneway queues take-in crm-before` queues the tasks that this application has" in str(found)
    assert str(found).startswith("3 messages are in the queue 'crm-before' (tasks: crm_notify), which this application")


def test_tasks_that_nobody_here_has_are_listed_too(platform: Platform) -> None:
    with Celery("shop", broker=platform.app.conf.broker_url, set_as_current=False) as app:
        laneway.install(app)
        app.send_task("shop.pack", args=[1], queue="shop")
        app.send_task("shop.pack", args=[2], queue="shop", countdown=3600)
    (found,) = UnknownQueues(platform.broker).listing()

    assert (found.queue, found.waiting, found.tasks) == ("shop", 2, ["shop.pack"])
    assert "`laneway flush shop` deletes what waits" in found.advice


def test_the_messages_of_another_applications_worker_are_no_alert(
    platform: Platform, services: Services, old_queue: str
) -> None:
    platform.fetched(old_queue)
    (found,) = UnknownQueues(platform.broker).listing()
    assert (found.waiting, found.running) == (2, 1)
    assert "A worker of another application takes its messages" in found.advice
    services.alerts.sweep()
    assert "unknown_queue" not in {alert.kind for alert in services.alerts.listing()}


def test_a_dead_letter_in_an_unknown_queue_is_seen(platform: Platform) -> None:
    platform.engine.put("gone", Message(id="m", task_id="m", name="gone", body=b"{}"))
    platform.engine.bury([platform.fetched("gone")], reason="rejected")
    (found,) = UnknownQueues(platform.broker).listing()
    assert (found.queue, found.waiting, found.dead, found.oldest_at) == ("gone", 0, 1, None)


def test_declared_queues_and_those_of_remote_control_are_no_findings(platform: Platform) -> None:
    for queue in ("crm", "worker@host.celery.pidbox", "celeryev.1234"):
        platform.engine.put(queue, Message(id="m", task_id="m", name=KNOWN, body=b"{}"))
    assert UnknownQueues(platform.broker).listing() == []


def test_figures_audit_and_alerts_name_it(platform: Platform, services: Services) -> None:
    platform.engine.put("shop", Message(id="m", task_id="m", name="shop.pack", body=b"{}"))

    window = services.statistics.window(60)
    assert [queue.queue for queue in gather_stats(services, window).unknown_queues] == ["shop"]
    assert [queue.queue for queue in services.audit.run().unknown_queues] == ["shop"]
    services.alerts.sweep()
    (alert,) = (alert for alert in services.alerts.listing() if alert.kind == "unknown_queue")
    assert (alert.subject, alert.message.startswith("1 message is in the queue 'shop' (tasks: shop.pack)")) == (
        "shop",
        True,
    )
    services.tasks.flush("shop")
    services.alerts.sweep()
    assert "unknown_queue" not in {alert.kind for alert in services.alerts.listing()}


def test_a_queue_whose_known_tasks_are_an_alert_already_is_one_alert(
    platform: Platform, services: Services, old_queue: str
) -> None:
    services.alerts.sweep()
    assert [alert.kind for alert in services.alerts.listing() if alert.subject == old_queue] == ["stranded"]


def test_a_request_costs_no_scan(platform: Platform, old_queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queues, scans = UnknownQueues(platform.broker), 0
    queue_names = platform.engine.queue_names

    def counted() -> list[str]:
        nonlocal scans
        scans += 1
        return queue_names()

    monkeypatch.setattr(type(platform.engine), "queue_names", lambda _: counted())
    for _ in range(10):
        assert len(queues.listing()) == 1
    assert scans == 1
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.0)
    queues.listing()
    assert scans == 2
