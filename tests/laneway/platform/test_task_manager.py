"""Submitting a task, on real databases and a real broker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from celery import Celery
from kombu.entity import Queue

from laneway.engine import Durability, MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidPayload,
    PlatformError,
    QueueFull,
    UnknownQueue,
    UnknownTaskType,
)
from laneway.platform.logging import bind, unbind_all
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.task_messages import REQUEST_HEADER
from laneway.schemas.task import TaskHandle, TaskState
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls
from tests.fixtures.waiting import wait_until

BROKER_ANSWERS_WITHIN = 10.0
"""Seconds within which a submission to a broker that is away must have failed."""


def test_a_submitted_task_has_a_row_and_a_message(platform: Platform) -> None:
    handle = platform.tasks.submit("process_conversation_message_task", {"conversation_id": "c-1", "message": " Hi "})

    row = platform.row(handle.task_id)
    assert handle == TaskHandle(task_id=row.id, state=TaskState.PENDING, created=True)
    assert (row.state, row.queue, row.key, row.attempts) == ("pending", "conversations", "conversation_id:c-1", 0)
    assert row.payload == {"conversation_id": "c-1", "message": "Hi", "channel": "api"}
    assert row.max_retries == platform.settings.tasks.max_retries
    assert platform.sent() == [row.id]


def test_the_message_carries_the_payload_and_the_request(platform: Platform) -> None:
    bind(request_id="req-7")
    try:
        id = platform.message(text="Grüße")
    finally:
        unbind_all()

    message = taken(platform)
    assert message.headers["task"] == "process_conversation_message_task"
    assert message.headers["id"] == id
    assert message.headers[REQUEST_HEADER] == "req-7"
    assert message.headers["ignore_result"] is False
    assert message.content_type == "application/json"
    assert message.decode()[1] == {"conversation_id": "c-1", "message": "Grüße", "channel": "api"}


def taken(platform: Platform, queue: str = "conversations") -> Any:
    """The next message, as a worker gets it."""
    with platform.app.connection_for_write() as connection:
        message: Any = Queue(queue)(connection.default_channel).get(no_ack=True)
    assert message is not None
    return message


def test_the_same_id_and_payload_twice_is_one_row_one_message_and_the_first_handle(platform: Platform) -> None:
    platform.message("c-1", id="order-1")

    again = platform.tasks.submit(
        "process_conversation_message_task", {"message": "Hello", "conversation_id": "c-1"}, id="order-1"
    )

    assert again == TaskHandle(task_id="order-1", state=TaskState.PENDING, created=False)
    assert [row.id for row in platform.rows()] == ["order-1"]
    assert platform.sent() == ["order-1"]


def test_the_handle_of_a_repeat_has_the_current_state(platform: Platform) -> None:
    platform.message(id="order-1")
    platform.work()

    handle = platform.tasks.submit(
        "process_conversation_message_task", {"conversation_id": "c-1", "message": "Hello"}, id="order-1"
    )

    assert handle == TaskHandle(task_id="order-1", state=TaskState.COMPLETED, created=False)


def test_many_submitters_of_one_id_at_once_make_one_task(platform: Platform) -> None:
    together = Barrier(8)

    def submit(_: int) -> TaskHandle:
        together.wait(10)
        return platform.webhook(id="same")

    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(submit, range(8)))

    assert sorted(handle.created for handle in handles) == [False] * 7 + [True]
    assert {handle.task_id for handle in handles} == {"same"}
    assert [row.id for row in platform.rows()] == ["same"]
    assert platform.sent("webhooks") == ["same"]


def test_the_same_id_with_another_payload_is_a_conflict_and_changes_nothing(platform: Platform) -> None:
    platform.message(id="order-1", text="one")

    with pytest.raises(Conflict, match="'order-1'"):
        platform.message(id="order-1", text="another")

    assert platform.row("order-1").payload["message"] == "one"
    assert platform.sent() == ["order-1"]


def test_the_same_id_for_another_task_is_a_conflict(platform: Platform) -> None:
    platform.chore(id="nightly")

    with pytest.raises(Conflict):
        platform.tasks.submit("health_sweep_task", {}, id="nightly")


def test_an_unknown_task_is_refused(platform: Platform) -> None:
    with pytest.raises(UnknownTaskType, match="no_such_task"):
        platform.tasks.submit("no_such_task", {})

    assert platform.rows() == []


@pytest.mark.parametrize("nested", [300, 3000])
def test_a_payload_that_is_nested_too_deeply_to_be_sent_is_refused(platform: Platform, nested: int) -> None:
    details: dict[str, Any] = {}
    for _ in range(nested):
        details = {"a": details}

    with pytest.raises(InvalidPayload, match="depth"):
        platform.tasks.submit(
            "process_manipulator_interaction_task",
            {"conversation_id": "c-1", "kind": "other", "channel": "api", "event_id": "e-1", "details": details},
        )

    assert platform.rows() == []


def test_an_invalid_payload_is_refused_with_its_fields_and_without_its_values(platform: Platform) -> None:
    payload = {"conversation_id": "secret-value!", "message": "", "surprise": "secret-value"}

    with pytest.raises(InvalidPayload) as refused:
        platform.tasks.submit("process_conversation_message_task", payload)

    text = str(refused.value)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "conversation_id",
        "message",
        "surprise",
    ]
    assert "secret-value" not in text
    assert "secret-value" not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert platform.rows() == []
    assert platform.sent() == []


def test_a_broker_that_is_away_gets_the_task_later_and_submit_returns_quickly(platform: Platform) -> None:
    platform.valkey.stop()
    began = time.monotonic()

    handle = platform.tasks.submit("cleanup_old_data_task", {}, id="order-1")

    assert time.monotonic() - began < BROKER_ANSWERS_WITHIN
    assert (handle.state, handle.created) == (TaskState.ACCEPTED, True)
    assert platform.row("order-1").state == TaskState.ACCEPTED
    assert platform.tasks.status("order-1").waiting_for == "the broker, which cannot be reached"


@pytest.mark.parametrize(
    "options",
    [SubmitOptions(id="order-1", unique="one"), SubmitOptions(id="order-1", durability=Durability.DISK)],
    ids=["unique", "disk"],
)
def test_uniqueness_and_durability_need_the_broker(platform: Platform, options: SubmitOptions) -> None:
    platform.valkey.stop()

    with pytest.raises(BrokerUnavailable):
        platform.tasks.submit("cleanup_old_data_task", {}, options=options)

    assert platform.rows() == []


@pytest.mark.parametrize("idle", [False, True], ids=["noticed", "unnoticed"])
def test_the_broker_connection_works_again_after_a_restart(platform: Platform, idle: bool) -> None:
    """Also when nothing was published in between, so that the pooled connection still looks usable."""
    platform.message(id="before")
    platform.valkey.stop()
    if not idle:
        platform.message("c-3", id="meanwhile")
    platform.valkey.start()

    assert platform.message("c-2", id="order-1") == "order-1"
    assert platform.sent() == ["before", "order-1"]


def test_a_task_whose_message_was_queued_without_a_confirmation_runs_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker queued the message and died before it confirmed that."""
    publish_many = Broker.publish_many

    def publish_then_lose(broker: Broker, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        publish_many(broker, runs)
        return [BrokerUnavailable("connection lost") for _ in runs]

    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", publish_then_lose)
        assert platform.webhook(id="ghost").state == TaskState.ACCEPTED

    assert not platform.webhook(id="ghost").created
    assert platform.tasks.status("ghost").status == TaskState.PENDING, "the engine's journal tells of it"
    assert platform.tasks.outbox.relay() == 0
    assert [platform.work("webhooks") for _ in range(2)] == ["ghost", None]
    assert platform.row("ghost").payload == webhook_payload()


def test_a_task_on_which_a_duplicate_submit_relies_is_not_withdrawn(
    platform: Platform, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duplicate came while the first submit was being refused."""
    promised: list[TaskHandle] = []

    def refuse(_broker: Broker, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        promised.append(platform.webhook(id="same"))
        return [QueueFull("webhooks", 1) for _ in runs]

    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", refuse)
        assert platform.webhook(id="same").created

    assert promised == [TaskHandle(task_id="same", state=TaskState.PENDING, created=False)]
    assert platform.sent("webhooks") == []
    movable_clock.forward(60)
    assert platform.maintenance().reconcile() == 1
    assert platform.sent("webhooks") == ["same"]


def test_a_delayed_task_waits_in_the_broker_until_it_is_due(platform: Platform) -> None:
    before = clock.now()
    handle = platform.tasks.submit("cleanup_old_data_task", {}, delay=90)

    row = platform.row(handle.task_id)
    assert handle.state == TaskState.SCHEDULED
    assert row.due_at is not None
    assert 89 < (row.due_at - before).total_seconds() < 95
    (message,) = platform.messages("maintenance", MessageState.SCHEDULED)
    assert message.stored.message.task_id == row.id
    assert message.at is not None
    assert abs(message.at / 1000 - row.due_at.timestamp()) < 1
    assert platform.fetch("maintenance") is None


def test_a_delayed_task_is_delivered_when_it_is_due(platform: Platform) -> None:
    id = platform.chore(delay=1.5)
    assert platform.fetch("maintenance") is None

    assert wait_until(lambda: platform.work("maintenance"), seconds=10) == id
    assert platform.row(id).state == TaskState.COMPLETED


def test_a_delayed_task_keeps_its_due_time_while_the_broker_is_away(platform: Platform) -> None:
    platform.valkey.stop()
    id = platform.chore(delay=90)
    platform.valkey.start()

    assert platform.tasks.outbox.relay() == 1

    (message,) = platform.messages("maintenance", MessageState.SCHEDULED)
    due = platform.row(id).due_at
    assert message.at is not None
    assert due is not None
    assert abs(message.at / 1000 - due.timestamp()) < 1
    assert platform.row(id).state == TaskState.SCHEDULED


def test_the_request_id_of_the_caller_is_kept(platform: Platform) -> None:
    bind(request_id="req-7")
    try:
        assert platform.row(platform.chore()).request_id == "req-7"
    finally:
        unbind_all()


def test_a_task_with_retries_of_its_own_keeps_their_number(platform: Platform) -> None:
    assert platform.row(platform.webhook().task_id).max_retries == registry["send_webhook_response_task"].max_retries
    assert platform.row(platform.tasks.submit("health_sweep_task", {}).task_id).max_retries == 0


def test_a_payload_of_a_megabyte_goes_through(platform: Platform) -> None:
    data = {"text": "ü" * 500_000}
    id = platform.tasks.submit("send_webhook_response_task", {**webhook_payload(), "data": data}).task_id

    assert platform.row(id).payload["data"] == data
    assert taken(platform, "webhooks").decode()[1]["data"] == data


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_without_a_json_form_becomes_null(platform: Platform, number: float) -> None:
    id = platform.tasks.submit("send_webhook_response_task", {**webhook_payload(), "data": {"n": number}}).task_id

    assert platform.row(id).payload["data"] == {"n": None}


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600 ü", "\x1b[31m"])
def test_any_text_in_a_payload_is_stored_and_sent(platform: Platform, text: str) -> None:
    id = platform.tasks.submit("send_webhook_response_task", {**webhook_payload(), "data": {"text": text}}).task_id

    assert platform.row(id).payload["data"] == {"text": text}
    assert taken(platform, "webhooks").decode()[1]["data"] == {"text": text}


def test_an_ordering_key_longer_than_its_column_is_cut(platform: Platform, platform_app: Celery) -> None:
    """The keys of the application have at most 128 characters. A longer one must still fit its column."""
    spec = replace(registry["process_conversation_message_task"], key="message")
    id = platform.tasks.submit(spec, {"conversation_id": "c", "message": "x" * 1000}).task_id

    assert len(platform.row(id).key or "") == 200
    assert platform.messages()[0].stored.message.key == platform.row(id).key


def test_another_process_on_the_same_servers_has_the_submissions(
    environment: Environment, redis_urls: RedisUrls, platform_database: Database, tmp_path: Path
) -> None:
    """A second process on the same servers sees what the first accepted."""
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path)
    with celery_on(settings) as app:
        id = make_platform(settings, app, platform_database, valkey=redis_urls.valkey).message(id="kept")
    with closing(Database(settings.storage.url)) as second, celery_on(settings) as app:
        other = make_platform(settings, app, second, valkey=redis_urls.valkey)
        assert other.sent() == [id]
        assert other.work() == id
        assert other.state(id) == TaskState.COMPLETED


def webhook_payload() -> dict[str, object]:
    return {"url": "https://example.com/hook", "event": "replied", "data": {}}


def test_a_task_may_be_put_into_another_declared_queue(platform: Platform) -> None:
    handle = platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(queue="analytics"))

    assert platform.row(handle.task_id).queue == "analytics"
    assert platform.sent("analytics") == [handle.task_id]
    with pytest.raises(UnknownQueue, match="no queue 'nowhere'; there are conversations"):
        platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(queue="nowhere"))
