"""The recorder: tasks that were sent past the task manager, and messages that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from laneway.engine import AckAction, Event, EventKind, Message, MessageState
from laneway.platform.db.models import JournalCursor
from laneway.platform.db.queries import task_events as repository
from laneway.platform.errors import WrongState
from laneway.platform.execution.outcomes import Raised
from laneway.platform.history.journal_projection import record
from laneway.schemas.task import TaskState
from tests.fixtures.journal import attempts, event_kinds
from tests.fixtures.platform import Platform

AWAY = Raised(OSError("away"))
NOW = 1_790_000_000_000


def test_a_task_that_was_sent_past_the_manager_gets_a_row(platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(  # pyright: ignore[reportUnknownMemberType]
        "process_conversation_message_task",
        kwargs={"conversation_id": "c-1", "message": "Hello"},
        task_id="from-a-shell",
        queue="conversations",
        priority=9,
    )
    row = platform.row("from-a-shell")
    assert (row.state, row.name, row.queue) == ("pending", "process_conversation_message_task", "conversations")
    assert (row.payload, row.priority) == ({"conversation_id": "c-1", "message": "Hello"}, 3)

    platform.work()

    assert platform.state("from-a-shell") == TaskState.COMPLETED
    assert attempts(platform, "from-a-shell") == [(1, "completed")]
    assert event_kinds(platform, "from-a-shell") == ["put", "begin", "end"]


def test_a_task_that_was_sent_past_the_manager_with_a_delay_is_scheduled(platform: Platform) -> None:
    platform.broker.prepare()
    due = NOW * 10
    platform.engine.put(
        "maintenance", Message(task_id="later", name="cleanup_old_data_task", body=b"\0[[], {}, {}]", eta_ms=due)
    )

    row = platform.row("later")
    assert (row.state, row.due_at) == ("scheduled", datetime.fromtimestamp(due / 1000, UTC))


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b'\0[[], {"a": 1}, {}]', {"a": 1}),
        (b"\0[[1, 2], {}, {}]", {"args": [1, 2]}),
        (b"\0not JSON", {}),
        (b"\0{}", {}),
        (b"\0null", {}),
        (b"\0" + b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        (b"[]\0[[], {}, {}]", {}),
        (b"", {}),
    ],
)
def test_a_message_that_cannot_be_run_is_a_dead_letter_with_its_body(
    platform: Platform, body: bytes, payload: dict[str, Any]
) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="odd", name="no_such_task", body=body))
    platform.engine.bury([platform.fetched("maintenance")], reason="malformed", error="cannot be read")

    row = platform.row("odd")
    assert (row.state, row.error, row.name) == ("dead_letter", "malformed: cannot be read", "no_such_task")
    assert (row.raw, row.payload) == (body, payload)
    assert platform.engine.unread(["maintenance"]) == [0]
    with pytest.raises(WrongState):
        platform.tasks.retry("odd")


def test_a_task_whose_id_cannot_be_stored_does_not_delay_the_others(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="x" * 156, name="cleanup_old_data_task", body=b"\0[[], {}, {}]"))
    good = platform.chore()
    for _ in range(2):
        platform.work("maintenance")

    assert platform.state(good) == TaskState.COMPLETED
    assert platform.engine.unread(["maintenance"]) == [0]
    assert [row.id for row in platform.rows()] == [good]


@pytest.mark.parametrize(
    "outcome",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "null",
        '{"state": "no such state"}',
        '{"state": null}',
        '{"state": "completed", "odd": 1}',
        json.dumps({"state": "failed", "error": "\ud800 \x00", "error_type": "E" * 500, "traceback": "\x00\udfff"}),
        json.dumps({"state": "failed", "error": ["not", "a text"]}),
    ],
)
def test_any_stored_outcome_ends_its_task(platform: Platform, outcome: str) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    assert attempt.lease is not None
    platform.engine.finish_attempt(attempt.lease, AckAction.DONE, outcome=outcome)

    row = platform.row(id)
    assert row.state == ("completed" if "completed" in outcome else "failed")
    assert row.finished_at is not None
    assert platform.engine.unread(["maintenance"]) == [0]


@pytest.mark.parametrize(
    "data",
    [
        "no JSON",
        "[]",
        '{"percent": "much"}',
        '{"percent": NaN}',
        '{"percent": 1e999}',
        '{"percent": -5, "message": 7}',
        '{"percent": 1, "message": "\\u0000 \\ud800"}',
        '{"percent": 900}',
    ],
)
def test_any_reported_progress_is_recorded(platform: Platform, data: str) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance", worker="w\x00")
    assert attempt.lease is not None
    for kind in (EventKind.PROGRESS, EventKind.LOG):
        platform.engine.report(attempt.lease, kind, data)
    platform.recorder.catch_up()
    assert 0 <= platform.row(id).progress <= 100
    platform.end(attempt)

    assert platform.state(id) == TaskState.COMPLETED
    assert attempts(platform, id) == [(1, "completed")]


def test_only_the_event_that_cannot_be_recorded_is_left_out(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [platform.chore() for _ in range(3)]
    for _ in ids:
        platform.work("maintenance")
    broken, add = ids[1], repository.add_events

    def refuse(session: Any, rows: Sequence[dict[str, Any]]) -> None:
        add(session, rows)
        if any(row["task_id"] == broken and row["kind"] == "begin" for row in rows):
            raise RuntimeError("no room")

    monkeypatch.setattr(repository, "add_events", refuse)
    platform.recorder.catch_up()

    assert {platform.state(id) for id in ids} == {TaskState.COMPLETED}
    assert event_kinds(platform, broken) == ["accepted", "put", "end"]
    assert [event_kinds(platform, id) for id in (ids[0], ids[2])] == [["accepted", "put", "begin", "end"]] * 2


def test_an_event_of_an_unknown_task_is_left_out(platform: Platform) -> None:
    with platform.database.transaction() as session:
        events = [Event(f"{NOW}-0", EventKind.FINISH, "nobody", "nobody", attempt=1)]
        record(session, "maintenance", events)

    assert platform.rows() == []


def test_the_journal_offset_is_stored_per_queue(platform: Platform) -> None:
    platform.chore()
    platform.message()
    platform.recorder.catch_up(["maintenance"])
    with platform.database.reading() as session:
        assert [cursor.queue for cursor in session.scalars(select(JournalCursor))] == ["maintenance"]
    assert platform.recorder.unread() == {"conversations": 1}
    assert platform.recorder.catch_up() == 1
    assert platform.places() != {}
    assert list(platform.places("maintenance").values()) == [MessageState.READY]


def test_a_task_of_celery_itself_ends_with_its_acknowledgement(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="own", name="celery.chord_unlock", body=b"\0[[], {}, {}]"))
    platform.engine.put("maintenance", Message(task_id="ours", name="cleanup_old_data_task", body=b"\0[[], {}, {}]"))

    platform.engine.ack([platform.fetched("maintenance"), platform.fetched("maintenance")])

    assert platform.row("own").state == TaskState.COMPLETED
    assert platform.row("own").progress_message == "acknowledged; its outcome is in Celery's results"
    assert (platform.row("ours").state, platform.row("ours").error_type) == (TaskState.FAILED, "Unrecorded")
