"""Large arguments of Celery's own calls (`.delay()`, `send_task`) lie in the storage; no call fails because of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chain

from laneway.platform import clock
from laneway.platform.history.adoption import run_from_call
from laneway.platform.payload_store import STORED, is_stored
from laneway.platform.sealing import Sealer, opened
from laneway.schemas.task import TaskState
from laneway.transport.codec import call_of
from tests.laneway.platform.execution.test_encrypted_tasks import QUEUE
from tests.laneway.platform.submission.test_stored_payloads import LARGE, TASK, Stored, make_stored, stored

__all__ = ["make_stored", "stored"]

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

BEFORE = {"characters": len(LARGE), "text": LARGE}


def arguments(stored: Stored) -> list[tuple[Any, Any]]:
    """The arguments in the messages of the queue."""
    return [tuple(call_of(info.stored.message)) for info in stored.platform.messages(QUEUE)]


def test_large_arguments_of_a_call_are_in_the_storage_and_the_task_gets_them(stored: Stored) -> None:
    count, note = stored.platform.app.tasks[TASK], stored.platform.app.tasks["sealed_note"]
    sent = [
        count.delay(BEFORE),
        count.apply_async(kwargs={"before": BEFORE, "factor": 2}),
        stored.platform.app.send_task(TASK, (BEFORE, 3), queue=QUEUE),
        note.delay(text=LARGE),
    ]
    small = count.delay({"characters": 1})

    assert [(args, list(kwargs)) for args, kwargs in arguments(stored)][:4] == [([], [STORED])] * 4
    assert arguments(stored)[4] == ([{"characters": 1}], {})
    assert len(stored.files()) == 4
    assert not any(b"large-4711" in info.stored.message.body for info in stored.platform.messages(QUEUE))
    stored.run()
    results = [opened(each.result) for each in (*sent, small)]
    assert [result["characters"] for result in results] == [len(LARGE) * n for n in (1, 2, 3, 1)] + [1]
    rows = [stored.platform.row(each.id) for each in sent]
    assert all(is_stored(row.payload) and row.state == TaskState.COMPLETED for row in rows)
    assert stored.platform.tasks.status(sent[0].id).payload == {"before": BEFORE}


def test_a_result_that_a_chain_passes_on_is_put_into_the_storage_when_it_is_sent(stored: Stored) -> None:
    note, following = stored.platform.app.tasks["sealed_note"], stored.platform.app.tasks["sealed_next"]
    sent = chain(note.s(text=LARGE), following.s())()
    stored.run()
    assert opened(sent.result) == {"again": LARGE}
    assert len(stored.files()) == 2


def test_arguments_that_are_no_plain_json_stay_in_the_message_as_celery_sends_them(stored: Stored) -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    stored.platform.app.tasks[TASK].delay(before={"text": LARGE, "at": at})
    ((_, kwargs),) = arguments(stored)
    assert kwargs["before"]["text"] == LARGE
    assert not stored.files()


def test_while_the_storage_is_away_a_call_has_its_arguments_in_the_message(stored: Stored) -> None:
    stored.folder.rmdir()
    stored.folder.write_text("in the way")
    sent = stored.platform.app.tasks[TASK].delay(BEFORE)
    stored.run()
    assert sent.result == {"characters": len(LARGE)}


def test_retention_keeps_the_object_of_a_call_that_waits(stored: Stored) -> None:
    sent = stored.platform.app.tasks[TASK].apply_async((BEFORE,), countdown=3 * 86_400)
    for file in stored.files():
        os.utime(file, (1, 1))
    stored.platform.recorder.catch_up()
    assert stored.services.retention.sweep(now=clock.now())["stored_payloads"] == 0
    assert is_stored(stored.platform.row(sent.id).payload)


def test_the_reference_to_an_encrypted_payload_is_not_encrypted_again_when_its_message_is_adopted(
    stored: Stored,
) -> None:
    reference = stored.platform.row(stored.submit(task="sealed_note")).payload
    sealer: Sealer = stored.platform.settings.tasks.sealer
    row = run_from_call("adopted", "sealed_note", reference, queue=QUEUE, at=clock.now(), priority=1, sealer=sealer)
    assert row.payload == reference
