"""Beside a newer version of Laneway: its queues and messages are left alone and named, and all others are served."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from laneway.engine.message import FORMAT, FORMAT_STEP, pack_id
from laneway.platform.errors import NewerQueue, UnknownTask
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.operations.audit import Audit
from laneway.platform.schemas.task import TaskState
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
