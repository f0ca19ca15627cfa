"""What the journal says of payloads: nothing of a task that has a row, and enough to adopt any other task."""

from __future__ import annotations

import pytest
from celery import signals
from sqlalchemy import delete, inspect

from laneway.engine import Message
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_events as repository
from laneway.platform.errors import Unsendable, WrongState
from laneway.platform.operations.dead_letters import DeadLetters, Filter
from laneway.platform.task_messages import check_sendable
from laneway.schemas.task import TaskState
from tests.fixtures.journal import event_kinds
from tests.fixtures.platform import Platform

QUEUE = "webhooks"
LARGE = "x" * 50_000


def submit_large(platform: Platform) -> str:
    payload = {"url": "https://example.com/hook", "event": "replied", "data": {"text": LARGE}}
    return platform.tasks.submit("send_webhook_response_task", payload).task_id


def journal_bytes(platform: Platform) -> int:
    entries = platform.engine.runner.call("XRANGE", platform.engine.keys.key(QUEUE, "journal"), "-", "+")
    return sum(len(value) for _, fields in entries for value in fields)


def lose_row(platform: Platform, id: str) -> None:
    """Delete the row of a task, as an older database does that has been restored."""
    with platform.database.transaction() as session:
        session.execute(delete(TaskRun).where(TaskRun.id == id))


def test_the_journal_has_no_payload_of_a_task_that_has_a_row(platform: Platform) -> None:
    ids = [submit_large(platform), submit_large(platform)]
    platform.engine.bury([platform.fetched(QUEUE)], reason="rejected")
    assert journal_bytes(platform) < 2_000

    assert [platform.state(id) for id in ids] == [TaskState.DEAD_LETTER, TaskState.PENDING]
    assert all(platform.row(id).payload["data"]["text"] == LARGE for id in ids)


def test_every_way_to_submit_leaves_no_payload_in_the_journal(platform: Platform) -> None:
    def receiver(**_: object) -> None:
        """Make the platform leave the publishing to Celery."""

    payload = {"url": "https://example.com/hook", "event": "replied", "data": {"text": LARGE}}
    with platform.tasks.transaction() as transaction:
        transaction.submit("send_webhook_response_task", payload)
    submit_large(platform)
    signals.before_task_publish.connect(receiver)
    try:
        submit_large(platform)
    finally:
        signals.before_task_publish.disconnect(receiver)
    assert platform.engine.unread([QUEUE]) == [3]
    assert journal_bytes(platform) < 2_000


def test_a_dead_letter_without_its_raw_body_is_sent_again(platform: Platform) -> None:
    id = submit_large(platform)
    platform.engine.bury([platform.fetched(QUEUE)], reason="rejected")
    assert platform.state(id) == TaskState.DEAD_LETTER
    letters = DeadLetters(platform.database, platform.broker, platform.recorder, platform.tasks)

    assert letters.requeue(Filter(ids=(id,))).done == 1

    assert platform.state(id) == TaskState.PENDING
    assert platform.work(QUEUE) == id


def test_a_task_whose_row_was_lost_is_adopted_with_the_payload_of_its_message(platform: Platform) -> None:
    id = submit_large(platform)
    lose_row(platform, id)

    assert platform.row(id).payload["data"]["text"] == LARGE
    assert platform.work(QUEUE) == id
    assert platform.state(id) == TaskState.COMPLETED


def test_a_finished_task_whose_row_was_lost_is_adopted_without_its_payload(platform: Platform) -> None:
    id = submit_large(platform)
    platform.work(QUEUE)
    lose_row(platform, id)

    row = platform.row(id)
    assert (row.state, row.name, row.payload) == (TaskState.COMPLETED, "send_webhook_response_task", {})
    assert event_kinds(platform, id) == ["put", "begin", "end"]
    with pytest.raises(WrongState, match="payload is not known"):
        platform.tasks.retry(id)
    with pytest.raises(Unsendable, match="payload is not known"):
        check_sendable(row)


def test_a_lost_task_without_a_payload_is_a_dead_letter_and_never_runs_with_another_one(platform: Platform) -> None:
    id = submit_large(platform)
    lose_row(platform, id)
    platform.engine.runner.call("DEL", platform.engine.keys.key(QUEUE, "messages"))
    row = platform.row(id)
    assert row.state == TaskState.PENDING

    platform.tasks.send(row)

    assert (platform.state(id), platform.row(id).error_type) == (TaskState.DEAD_LETTER, "Unsendable")


def test_a_task_that_was_sent_without_the_platform_is_adopted_from_its_event_alone(platform: Platform) -> None:
    platform.broker.prepare()
    body = b'\0[[], {"text": "' + LARGE.encode() + b'"}, {}]'
    platform.engine.put(QUEUE, Message(task_id="beat", name="send_webhook_response_task", body=body))
    platform.engine.ack([platform.fetched(QUEUE)])

    assert platform.row("beat").payload == {"text": LARGE}


def test_recording_an_event_does_not_read_the_payload_of_its_task(platform: Platform) -> None:
    id = submit_large(platform)
    with platform.database.reading() as session:
        (run,) = repository.runs(session, [id])
        assert {"payload", "result", "raw"} <= inspect(run).unloaded
