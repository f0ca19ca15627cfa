"""Beside a newer version of Laneway: its queues and messages are left alone and named, and all others are served."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from laneway.engine import Message, MessageState
from laneway.engine.message import FORMAT, FORMAT_STEP, pack_id
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_events
from laneway.platform.errors import NewerQueue, UnknownTask
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.operations.audit import Audit
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

QUEUE = "maintenance"


def upgrade(platform: Platform) -> None:
    """Mark the queue as a newer version does that has changed it."""
    platform.engine.runner.call("HSET", platform.engine.keys.key(QUEUE, "limits"), "format", 7)


def make_newer(platform: Platform, id: str) -> None:
    """Change the record of a message as a newer version may write it."""
    key, raw_id = platform.engine.keys.key(QUEUE, "messages"), pack_id(id)
    record: bytes = platform.engine.runner.call("HGET", key, raw_id)
    newer = record[:8] + bytes((0xFF, record[9] + FORMAT_STEP * (FORMAT + 1))) + b"\xff" + record[10:]
    platform.engine.runner.call("HSET", key, raw_id, newer)


def audited(platform: Platform) -> Audit:
    results = CeleryResults(platform.app)
    return Audit(platform.database, platform.broker, platform.recorder, platform.tasks, results)


def test_a_queue_of_a_newer_version_is_left_alone_and_named(platform: Platform, movable_clock: MovableClock) -> None:
    waiting, other = platform.chore(), platform.message()
    upgrade(platform)
    movable_clock.forward(60)

    with pytest.raises(NewerQueue, match="newer version"):
        platform.chore(id="refused")
    with pytest.raises(UnknownTask):
        platform.row("refused")
    with capture_logs() as logs:
        for _ in range(2):
            platform.broker.prepare()
    assert [(line["queue"], line["what"]) for line in logs if "left alone" in line["event"]] == [(QUEUE, "format 7")]
    assert platform.maintenance().reconcile() == 0
    platform.recorder.catch_up()
    assert platform.recorder.unread() == {QUEUE: 1}, "the events of the other queues are recorded"
    assert platform.work() == other
    assert platform.state(other) == TaskState.COMPLETED
    assert platform.state(waiting) == TaskState.PENDING

    report = audited(platform).run(repair=True)
    assert (report.newer, report.balanced, report.unaccounted, report.repaired) == ([QUEUE], False, [], 0)


def test_the_outbox_keeps_the_tasks_of_a_queue_of_a_newer_version_and_sends_the_others(platform: Platform) -> None:
    platform.broker.prepare()
    upgrade(platform)
    with platform.tasks.transaction() as transaction:
        kept = transaction.submit("cleanup_old_data_task", {}).task_id
        payload = {"conversation_id": "c-1", "message": "Hello"}
        sent = transaction.submit("process_conversation_message_task", payload).task_id
    assert [handle.state for handle in transaction.handles] == [TaskState.ACCEPTED, TaskState.PENDING]
    assert platform.tasks.outbox.relay() == 0
    assert (platform.state(kept), platform.sent()) == (TaskState.ACCEPTED, [sent])

    platform.engine.runner.call("HDEL", platform.engine.keys.key(QUEUE, "limits"), "format")
    assert platform.tasks.outbox.relay() == 1
    assert platform.work(QUEUE) == kept


def test_a_message_of_a_newer_version_is_named_and_not_sent_again(
    platform: Platform, movable_clock: MovableClock
) -> None:
    ids = [platform.chore(), platform.chore()]
    make_newer(platform, ids[0])
    assert [platform.work(QUEUE), platform.work(QUEUE)] == [None, ids[1]], "the first fetch has set it aside"
    movable_clock.forward(60)

    with capture_logs() as logs:
        for _ in range(2):
            platform.broker.prepare()
    assert [(line["queue"], line["what"]) for line in logs if "left alone" in line["event"]] == [(QUEUE, "messages")]
    assert platform.maintenance().reconcile() == 0
    report = audited(platform).run(repair=True)
    assert (report.engine[QUEUE].set_aside, report.unaccounted, report.balanced) == (1, [], True)
    assert platform.state(ids[0]) == TaskState.PENDING


def test_an_older_copy_beside_a_queue_of_a_newer_version_is_left_to_that_version(
    platform: Platform, movable_clock: MovableClock
) -> None:
    """The other queues are compared, and what was noticed of this one is kept."""
    chore, other = platform.chore(), platform.message()
    platform.recorder.catch_up()
    with platform.database.transaction() as session:
        for cursor in task_events.cursors(session):
            cursor.replaced = True
    upgrade(platform)
    movable_clock.forward(60)

    assert platform.maintenance().reconcile() == 0
    report = audited(platform).run(repair=True)

    assert (list(report.older), report.newer, report.unaccounted) == ([QUEUE], [QUEUE], [])
    assert [copy.queue for copy in platform.recorder.find_replaced_copies()] == [QUEUE]
    assert [platform.state(id) for id in (chore, other)] == [TaskState.PENDING] * 2


def test_a_lost_journal_of_a_queue_of_a_newer_version_stops_no_other_queue(platform: Platform) -> None:
    platform.chore()
    platform.recorder.catch_up()
    platform.engine.runner.call("HDEL", platform.engine.keys.key(QUEUE, "counters"), "recorded")
    upgrade(platform)

    assert platform.recorder.find_replaced_copies() == []
    assert platform.maintenance().reconcile() == 0


def test_a_message_of_a_newer_version_gets_no_row_and_is_not_deleted(platform: Platform) -> None:
    platform.broker.prepare()
    ids = ["unknown", platform.chore()]
    platform.engine.put(QUEUE, Message(task_id="unknown", name="cleanup_old_data_task"))
    platform.engine.runner.call("DEL", platform.engine.keys.key(QUEUE, "journal"))
    for id in ids:
        make_newer(platform, id)
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(state=TaskState.COMPLETED, finished_at=clock.now()))

    report = audited(platform).run(repair=True)

    assert (report.unknown, report.again, report.strays, report.repaired) == ([], [], [], 0)
    assert [run.id for run in platform.rows()] == ids[1:]
    assert [platform.engine.find(QUEUE, id).state for id in ids] == [MessageState.READY] * 2
