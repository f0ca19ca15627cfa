"""Programs that know only the broker's address: what they send is run, or is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import laneway
from laneway.engine import Message, MessageState
from laneway.platform.db.session import Database
from laneway.platform.errors import QueueFull
from laneway.platform.operations.intake import Intake
from laneway.platform.queues import Priority
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.alerts import alerts_of
from tests.fixtures.platform import Platform

MESSAGE = "process_conversation_message_task"
HOOK = "send_webhook_response_task"


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def stranger(platform: Platform) -> Iterator[Celery]:
    """A Celery app that has no package of ours."""
    with Celery("shop", broker=platform.app.conf.broker_url, set_as_current=False, broker_pool_limit=32) as app:
        yield app


@pytest.fixture
def half_stranger(platform: Platform) -> Iterator[Celery]:
    """A Celery app that has the library alone."""
    with Celery("shop", broker=platform.app.conf.broker_url, set_as_current=False, broker_pool_limit=32) as app:
        laneway.install(app)
        yield app


@pytest.fixture
def intake(platform: Platform) -> Intake:
    return Intake(platform.broker)


def payload(number: int = 1) -> dict[str, Any]:
    return {"conversation_id": "c-1", "message": f"Hello {number}", "message_id": f"m-{number}"}


def queued(platform: Platform, queue: str = "conversations", state: MessageState = MessageState.READY) -> list[Message]:
    return [info.stored.message for info in platform.engine.peek(queue, state)]


def in_list(platform: Platform, key: str) -> int:
    return int(platform.engine.runner.call("LLEN", key))


def test_a_task_of_a_bare_celery_app_gets_queue_key_priority_and_a_row(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    sent = [stranger.send_task(MESSAGE, kwargs=payload(number)).id for number in (1, 2)]
    assert in_list(platform, "celery") == 2

    assert platform.maintenance().take_in() == 2

    (head,) = queued(platform)
    (held,) = queued(platform, state=MessageState.HELD)
    assert [head.task_id, held.task_id] == sent
    assert {head.key, held.key} == {"conversation_id:c-1"}
    assert head.priority == 3 * Priority.NORMAL
    assert (in_list(platform, "celery"), intake.take(), intake.stranded()) == (0, 0, [])
    platform.recorder.catch_up()
    assert [platform.row(id).payload for id in sent] == [payload(1), payload(2)]
    assert {platform.state(id) for id in sent} == {TaskState.PENDING}


def test_a_list_with_the_name_of_a_queue_is_taken_in_by_the_catalog_and_not_by_its_name(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    stranger.send_task(MESSAGE, kwargs=payload(), queue="conversations")
    stranger.send_task(HOOK, kwargs={"url": "https://example.com", "event": "x", "data": {}}, queue="analytics")

    assert intake.take() == 2

    assert [message.name for message in queued(platform)] == [MESSAGE]
    assert [message.name for message in queued(platform, "webhooks")] == [HOOK]


def test_delays_and_priorities_of_kombus_transport_are_kept(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    stranger.send_task(MESSAGE, kwargs=payload(), countdown=600)
    stranger.send_task(HOOK, kwargs={"url": "https://example.com", "event": "x", "data": {}}, priority=6)

    assert intake.take() == 2

    (late,) = queued(platform, state=MessageState.SCHEDULED)
    assert late.eta_ms is not None
    assert [message.priority for message in queued(platform, "webhooks")] == [3]


def test_what_nobody_here_can_run_is_left_in_celerys_default_list_and_is_an_alert(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    stranger.send_task("tasks_of_another_project", kwargs={})

    assert intake.take() == 0

    assert in_list(platform, "celery") == 1
    alerts = alerts_of(platform, intake=intake)
    (opened,) = alerts.sweep()["opened"]
    assert "'celery'" in opened
    assert "tasks_of_another_project" in opened
    platform.engine.runner.call("DEL", "celery")
    assert alerts.sweep()["open"] == 0


def test_an_unknown_task_in_a_list_of_a_declared_queue_goes_to_its_workers_who_refuse_it(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    stranger.send_task("no_such_task", queue="analytics")

    assert intake.take() == 1

    assert [message.name for message in queued(platform, "analytics")] == ["no_such_task"]


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff\x00", b"{}", b"[1]", b'{"body": 1, "headers": {}, "properties": {}}', b"[" * 5000],
    ids=["empty", "binary", "object", "list", "types", "deep"],
)
def test_junk_stays_and_is_told_and_holds_up_nothing(
    platform: Platform, stranger: Celery, intake: Intake, junk: bytes
) -> None:
    platform.engine.runner.call("LPUSH", "conversations", junk)
    stranger.send_task(MESSAGE, kwargs=payload(), queue="conversations")

    assert intake.take() == 1

    assert in_list(platform, "conversations") == 1
    assert [(found.queue, found.number) for found in intake.stranded()] == [("conversations", 1)]


def test_a_key_of_another_type_is_none_of_kombus_lists(platform: Platform, intake: Intake) -> None:
    platform.engine.runner.call("SET", "conversations", "x")

    assert (intake.take(), intake.stranded()) == (0, [])


def test_a_full_queue_takes_it_in_later(platform: Platform, stranger: Celery, intake: Intake) -> None:
    platform.broker.prepare()
    platform.engine.set_max_size("conversations", 1)
    first = platform.tasks.submit(MESSAGE, payload())
    with pytest.raises(QueueFull):
        platform.tasks.submit(MESSAGE, payload(2), options=SubmitOptions(id="second"))
    stranger.send_task(MESSAGE, kwargs=payload(3))

    assert (intake.take(), in_list(platform, "celery")) == (0, 1)

    platform.tasks.cancel(first.task_id)
    assert (intake.take(), in_list(platform, "celery")) == (1, 0)


def test_a_worker_that_dies_between_queueing_and_removing_doubles_nothing(
    platform: Platform, stranger: Celery, intake: Intake
) -> None:
    stranger.send_task(MESSAGE, kwargs=payload())
    copy: Any = platform.engine.runner.call("LINDEX", "celery", 0)
    assert intake.take() == 1
    platform.engine.runner.call("LPUSH", "celery", copy)

    assert intake.take() == 1

    assert (len(queued(platform)), len(queued(platform, state=MessageState.HELD))) == (1, 0)


def test_a_task_of_an_app_with_the_library_alone_leaves_celerys_default_queue(
    platform: Platform, half_stranger: Celery, intake: Intake
) -> None:
    sent = [half_stranger.send_task(MESSAGE, kwargs=payload(number)).id for number in (1, 2)]
    late = half_stranger.send_task(HOOK, kwargs={"url": "https://example.com", "event": "x", "data": {}}, countdown=600)
    half_stranger.send_task("tasks_of_another_project")

    assert intake.take() == 3

    assert [message.task_id for message in queued(platform)] == sent[:1]
    assert [message.task_id for message in queued(platform, state=MessageState.HELD)] == sent[1:]
    assert [message.task_id for message in queued(platform, "webhooks", MessageState.SCHEDULED)] == [late.id]
    (left,) = intake.stranded()
    assert (left.queue, left.number, left.names) == ("celery", 1, ("tasks_of_another_project",))


def test_tasks_under_a_mistyped_name_are_an_alert_and_taken_in_on_request(
    platform: Platform, stranger: Celery, half_stranger: Celery, intake: Intake
) -> None:
    stranger.send_task(MESSAGE, kwargs=payload(1), queue="conversatoins")
    half_stranger.send_task(MESSAGE, kwargs=payload(2), queue="conversatoins")
    half_stranger.send_task("tasks_of_another_project", queue="elsewhere")
    platform.engine.runner.call("LPUSH", "a list of another program", "x")

    assert intake.take() == 0
    found = intake.stranded()
    assert [(each.queue, each.number, each.names) for each in found] == [("conversatoins", 1, (MESSAGE,))] * 2
    assert "laneway queues take-in conversatoins" in str(found[0])

    assert intake.take("conversatoins") == 2
    assert (len(queued(platform)), intake.stranded()) == (1, [])
