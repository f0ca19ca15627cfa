"""What Celery's listeners and tasks see of a submission is the same as after `send_task`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import signals
from kombu.entity import Queue

from laneway.platform.db.session import Database
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.platform.task_messages import REQUEST_HEADER, RETRIES_HEADER
from laneway.transport.codec import HEADER_CHECKED
from tests.fixtures.platform import Platform

TASK, QUEUE = "cleanup_old_data_task", "maintenance"


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


def taken(platform: Platform, queue: str = QUEUE) -> Any:
    """The next message of a queue, as a worker gets it."""
    with platform.app.connection_for_write() as connection:
        message: Any = Queue(queue)(connection.default_channel).get(no_ack=True)
    assert message is not None
    return message


@contextmanager
def connected(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    """A receiver of a Celery signal for a while."""
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_a_worker_gets_the_message_that_send_task_would_have_sent(platform: Platform) -> None:
    payload = {"url": "https://example.com/hook", "event": "replied", "data": {}}
    options = SubmitOptions(id="m-1", expires=600, time_limit=30, max_retries=2)
    platform.tasks.submit("send_webhook_response_task", payload, options=options)
    direct = taken(platform, "webhooks")
    expires = platform.row("m-1").expires_at

    platform.app.send_task(
        "send_webhook_response_task",
        kwargs=platform.row("m-1").payload,
        task_id="m-1",
        queue="webhooks",
        expires=expires,
        soft_time_limit=30,
        time_limit=35.0,
        priority=3,
        ignore_result=True,
        headers={"ignore_result": False, REQUEST_HEADER: None, RETRIES_HEADER: 2},
    )
    by_celery = taken(platform, "webhooks")

    lease = {"laneway-lease", HEADER_CHECKED}  # only the platform has checked the payload
    assert without(direct.headers, lease) == without(by_celery.headers, lease)
    assert direct.decode() == by_celery.decode()
    volatile = {"delivery_tag", "delivery_info", "expiration"}
    assert without(direct.properties, volatile) == without(by_celery.properties, volatile)
    left = [int(message.properties["expiration"]) for message in (direct, by_celery)]
    assert abs(left[0] - left[1]) < 60_000


def without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def test_events_show_a_payload_without_secrets_and_the_task_gets_them(platform: Platform) -> None:
    payload = {"url": "https://user:hunter2@x.example/hook", "event": "paid", "data": {"api_key": "hunter2"}}
    platform.tasks.submit("send_webhook_response_task", payload)

    message = taken(platform, "webhooks")

    assert "x.example" in message.headers["kwargsrepr"]
    assert "hunter2" not in message.headers["kwargsrepr"]
    assert message.decode()[1]["url"] == payload["url"]
    assert message.decode()[1]["data"] == payload["data"]


def test_a_monitor_gets_the_event_task_sent_of_single_and_of_grouped_submissions(platform: Platform) -> None:
    events: list[dict[str, Any]] = []
    app: Any = platform.app
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": events.append})
        with receiver.consumer_context() as (listening, *_):
            platform.chore("single")
            with platform.tasks.transaction() as transaction:
                transaction.submit_many([Submission(TASK, {}, SubmitOptions(id=f"g-{number}")) for number in range(3)])
            while len(events) < 4:
                listening.drain_events(timeout=10)

    assert [event["uuid"] for event in events] == ["single", "g-0", "g-1", "g-2"]
    assert {(event["name"], event["queue"], event["routing_key"]) for event in events} == {(TASK, QUEUE, QUEUE)}


def test_without_the_setting_no_event_is_sent(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.app.conf.task_send_sent_event = False
    calls: list[object] = []
    monkeypatch.setattr("laneway.platform.task_messages.publish_task_sent", lambda *values: calls.append(values))

    platform.chore("single")

    assert calls == []
    assert platform.sent(QUEUE) == ["single"]


def test_receivers_of_after_task_publish_are_called_once_the_message_is_queued(platform: Platform) -> None:
    received: list[tuple[str, str, list[str]]] = []

    def note(sender: str, headers: dict[str, Any], routing_key: str, **_: Any) -> None:
        received.append((sender, routing_key, platform.sent(QUEUE)))
        assert headers["id"] == "m-1"

    with connected(signals.after_task_publish, note):
        platform.chore("m-1")

    assert received == [(TASK, QUEUE, ["m-1"])]


def test_receivers_of_before_task_publish_may_still_change_the_message(platform: Platform) -> None:
    def add_header(headers: dict[str, Any], **_: Any) -> None:
        headers["x-tenant"] = "shop"

    with connected(signals.before_task_publish, add_header):
        platform.chore("single")
        with platform.tasks.transaction() as transaction:
            transaction.submit(TASK, {}, options=SubmitOptions(id="later"))

    assert [taken(platform).headers["x-tenant"] for _ in range(2)] == ["shop", "shop"]


def test_a_refused_message_is_not_announced(platform: Platform) -> None:
    received: list[str] = []
    platform.chore("first")
    platform.engine.set_max_size(QUEUE, 1)

    note = connected(signals.after_task_publish, lambda headers, **_: received.append(headers["id"]))
    with note, platform.tasks.transaction() as transaction:
        transaction.submit(TASK, {}, options=SubmitOptions(id="refused"))

    assert received == []
    assert platform.sent(QUEUE) == ["first"]


def test_a_lost_event_does_not_fail_the_submission(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise OSError("connection lost")

    monkeypatch.setattr("laneway.platform.task_messages.publish_task_sent", lose)

    assert platform.chore("m-1") == "m-1"
    assert platform.sent(QUEUE) == ["m-1"]


def test_a_task_that_submits_another_is_its_parent(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    trail: list[str] = []

    class Request:
        id, root_id = "parent", "root"

    class Parent:
        request = Request()

        def add_trail(self, result: Any) -> None:
            trail.append(result.id)

    monkeypatch.setattr(type(platform.app), "current_worker_task", Parent())

    platform.chore("child")

    headers = taken(platform).headers
    assert (headers["root_id"], headers["parent_id"]) == ("root", "parent")
    assert trail == ["child"]
