"""A task that is sent by its name alone goes where its declaration says, whoever sends it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import laneway
from laneway.engine import MessageState
from laneway.engine.message import Message
from laneway.platform.db.session import Database
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.submission.routes import TaskRoutes, registered_routes
from laneway.platform.task_messages import TaskMessages
from tests.fixtures.forked import run_forked
from tests.fixtures.platform import Platform

ROOT = Path(laneway.__file__).parent.parent
MESSAGE = "process_conversation_message_task"
PAYLOAD = {"conversation_id": "c-1", "message": "Hello", "message_id": "m-1"}


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


def only(platform: Platform, queue: str = "conversations") -> Message:
    (found,) = platform.engine.peek(queue, MessageState.READY)
    return found.stored.message


def test_every_registered_task_that_is_sent_by_name_lands_in_the_queue_of_its_declaration(platform: Platform) -> None:
    for name in registry:
        platform.app.send_task(name)

    expected = Counter(spec.queue for spec in registry.values())
    assert {stats.queue: stats.waiting for stats in platform.engine.stats(list(expected))} == expected


def test_a_task_sent_by_name_has_the_key_and_the_priority_of_its_declaration(platform: Platform) -> None:
    submitted = platform.tasks.submit(MESSAGE, PAYLOAD)
    by_platform = only(platform)
    platform.tasks.cancel(submitted.task_id)

    platform.app.send_task(MESSAGE, kwargs=PAYLOAD)
    by_name = only(platform)

    assert by_name.key == by_platform.key is not None
    assert by_name.priority == by_platform.priority == 3 * Priority.NORMAL


def test_positional_arguments_give_the_same_key_and_unfit_ones_none(platform: Platform) -> None:
    platform.app.send_task(MESSAGE, args=["c-9"], kwargs={"message": "Hello", "message_id": "m-1"})
    platform.app.send_task(MESSAGE, args=[1, 2, 3, 4, 5, 6, 7, 8, 9])

    keys = [info.stored.message.key for info in platform.engine.peek("conversations", MessageState.READY)]

    assert keys == ["conversation_id:c-9", None]


def test_what_the_sender_says_wins(platform: Platform) -> None:
    headers = {"laneway-key": "mine", "x-origin": "shop"}
    call = platform.app.signature(MESSAGE, kwargs=PAYLOAD)

    call.apply_async(queue="analytics", priority=9, headers=headers)
    found = only(platform, "analytics")

    assert (found.key, found.priority) == ("mine", 9)
    assert b"x-origin" in found.body
    assert headers == {"laneway-key": "mine", "x-origin": "shop"}


def test_own_headers_do_not_cost_the_key(platform: Platform) -> None:
    platform.app.signature(MESSAGE, kwargs=PAYLOAD).apply_async(headers={"x-origin": "shop"})

    assert only(platform).key == "conversation_id:c-1"


def test_an_unknown_task_takes_celerys_way(platform: Platform) -> None:
    platform.app.send_task("no_such_task")

    assert only(platform, "maintenance").name == "no_such_task"


def test_the_routes_do_not_cost_the_platforms_own_sending_its_short_way(platform: Platform) -> None:
    assert TaskMessages(platform.app).can_build
    platform.app.conf.task_routes = {"report": {"queue": "analytics"}}
    assert not TaskMessages(platform.app).can_build


def test_tasks_are_loaded_before_one_counts_as_unknown_and_only_once() -> None:
    loads: list[str] = []
    routes = TaskRoutes(lambda: loads.append("load"), zero_goes_first=False, has_keys=False)

    assert [routes("no_such_task", (), {}, {}) for _ in range(2)] == [None, None]
    assert loads == ["load"]


def test_on_kombus_redis_transport_the_priority_counts_the_other_way_and_there_is_no_key() -> None:
    routes = TaskRoutes(lambda: None, zero_goes_first=True, has_keys=False)
    options: dict[str, Any] = {}

    assert routes(MESSAGE, (), PAYLOAD, options) == {"queue": "conversations", "priority": 9 - 3 * Priority.NORMAL}
    assert options == {}


def test_celery_call_sends_a_task_to_its_queue(platform: Platform) -> None:
    command = ["celery", "-A", "app.core.celery_app:celery_app", "call", MESSAGE, "--kwargs", json.dumps(PAYLOAD)]

    assert run_forked(command, folder=ROOT, environment=os.environ).returncode == 0

    assert only(platform).key == "conversation_id:c-1"


def test_the_printed_routes_serve_an_app_that_has_the_library_alone(platform: Platform) -> None:
    shop = Celery("shop", broker=platform.app.conf.broker_url, set_as_current=False, broker_pool_limit=32)
    laneway.install(shop)
    shop.conf.task_routes = json.loads(json.dumps(registered_routes()))

    with shop:
        shop.send_task(MESSAGE, kwargs=PAYLOAD)

    assert only(platform).name == MESSAGE
