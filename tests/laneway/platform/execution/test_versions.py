"""Payloads of another version of the application: handed on to a worker that knows them, and never a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from app.schemas.conversation import ConversationMessage
from app.services.container import Services
from laneway.platform.db.models import TaskEvent
from laneway.platform.execution.versions import check_version
from laneway.platform.registry import TaskSpec, registry
from laneway.schemas.payload import Payload
from laneway.transport.codec import HEADER_CHECKED
from laneway.worker.hand_on import SETTING, UnknownHere
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec
from tests.laneway.platform.execution.test_task import WORKER, TaskRunner, runner

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
__all__ = ["runner"]

CHECKED = {HEADER_CHECKED: True}


class Thumbnail(Payload):
    url: str
    width: int = 64


SPEC = TaskSpec(name="thumbnail", own_queue="conversations", payload=Thumbnail)


def test_a_payload_that_fits_is_run() -> None:
    check_version(SPEC, {"url": "x"}, {})


@pytest.mark.parametrize("headers", [{}, CHECKED], ids=["nobody has checked it", "it was checked"])
def test_unknown_fields_belong_to_another_version(headers: dict[str, Any]) -> None:
    with pytest.raises(UnknownHere, match="does not know the fields 'format', 'height' of the task 'thumbnail'"):
        check_version(SPEC, {"url": "x", "height": 1, "format": "png"}, headers)


@pytest.mark.parametrize("payload", [{}, {"url": "x", "width": "wide"}])
def test_any_other_mistake_is_that_of_the_sender_unless_the_payload_was_checked(payload: dict[str, Any]) -> None:
    check_version(SPEC, payload, {})
    with pytest.raises(UnknownHere, match="this form of the payload of the task 'thumbnail'"):
        check_version(SPEC, payload, CHECKED)


def test_positional_arguments_that_do_not_fit_are_a_mistake_of_the_sender() -> None:
    check_version(SPEC, {"args": [1, 2, 3]}, {})


class NewerMessage(ConversationMessage):
    tone: str | None = None


NEWER = replace(registry["process_conversation_message_task"], payload=NewerMessage)
"""The task in a version whose payload has a field more."""


def submit_by_newer_version(platform: Platform) -> str:
    payload = {"conversation_id": "c-1", "message": "Hello", "tone": "friendly"}
    return platform.tasks.submit(NEWER, payload).task_id


def lines(platform: Platform, id: str) -> list[str]:
    with platform.database.reading() as session:
        events = session.scalars(select(TaskEvent).where(TaskEvent.task_id == id, TaskEvent.kind == "log"))
        return [event.data["text"] for event in events]


def test_a_task_with_a_new_field_waits_without_an_attempt_and_other_tasks_pass(
    runner: TaskRunner, platform: Platform
) -> None:
    newer, other = submit_by_newer_version(platform), platform.message("c-2")
    assert runner.deliver_next() == newer
    assert runner.deliver_next() == other
    assert runner.deliver_next() == newer, "half a second later"

    assert runner.ran == [(other, 1)]
    row = platform.row(newer)
    assert (row.state, row.attempts, row.error) == ("pending", 0, None)
    assert str(platform.tasks.status(newer).waiting_for).startswith("a worker that knows the task and its fields")
    assert lines(platform, newer) == [
        f"{WORKER} does not know the field 'tone' of the task 'process_conversation_message_task', "
        "and hands the message on"
    ]


def test_a_worker_that_knows_the_field_runs_it(
    runner: TaskRunner, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = submit_by_newer_version(platform)
    later = platform.message("c-1")
    assert runner.deliver_next() == newer
    assert runner.deliver() is None, "the later message of the conversation waits for it"

    monkeypatch.setattr(type(runner.task), "spec", NEWER)
    assert [runner.deliver_next(), runner.deliver_next()] == [newer, later]
    assert runner.ran == [(newer, 1), (later, 1)]


def test_after_the_time_it_is_a_dead_letter_that_can_be_retried(
    runner: TaskRunner, platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = submit_by_newer_version(platform)
    platform.app.conf[SETTING] = 0
    runner.deliver_next()

    row = platform.row(newer)
    assert row.state == "dead_letter"
    assert "No worker of the queue 'conversations' knows the field 'tone'" in str(row.error)
    assert row.payload["tone"] == "friendly"
    assert platform.app.AsyncResult(row.id).state == "FAILURE"

    register_spec(monkeypatch, NEWER)  # the newer version is deployed
    monkeypatch.setattr(type(runner.task), "spec", NEWER)
    services.tasks.retry(row.id)
    assert runner.deliver_next() == row.id
    assert platform.row(row.id).state == "completed"
