"""A submission that is refused leaves nothing behind: no row, no event, no tag, no message."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from laneway.engine import Durability
from laneway.platform.db.models import TaskEvent, TaskTag
from laneway.platform.errors import (
    BrokerUnavailable,
    DuplicateTask,
    HistoryBehind,
    NotDurable,
    PlatformError,
    QueueFull,
    Unsupported,
)
from laneway.platform.queues import Priority
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

TASK, QUEUE = "cleanup_old_data_task", "maintenance"
EVENTS = 200
"""Unrecorded events that a journal takes in the test of HistoryBehind."""


def assert_refused(platform: Platform, error: type[PlatformError], options: SubmitOptions) -> None:
    """Submit a task that must be refused, and compare everything that is stored before and after."""
    before = stored(platform)
    with pytest.raises(error):
        platform.tasks.submit(TASK, {}, options=options)
    assert stored(platform) == before


def stored(platform: Platform) -> tuple[object, ...]:
    """The ids of all rows, the numbers of events and tags, and all messages of the queue."""
    platform.recorder.catch_up_quietly()
    with platform.database.reading() as session:
        events = session.scalar(select(func.count()).select_from(TaskEvent))
        tags = session.scalar(select(func.count()).select_from(TaskTag))
    return [row.id for row in platform.rows()], events, tags, platform.places(QUEUE)


def test_a_full_queue_leaves_no_row(platform: Platform) -> None:
    platform.chore()
    platform.engine.set_max_size(QUEUE, 1)

    assert_refused(platform, QueueFull, SubmitOptions(tags=("refused",)))


def test_a_full_queue_leaves_no_row_of_a_unique_task(platform: Platform) -> None:
    platform.chore()
    platform.engine.set_max_size(QUEUE, 1)

    assert_refused(platform, QueueFull, SubmitOptions(unique="nightly", tags=("refused",)))


def test_a_history_that_is_behind_leaves_no_row(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.enable_journal(QUEUE, EVENTS)
    with platform.without_database():
        for number in range(EVENTS):
            platform.app.send_task(TASK, queue=QUEUE, task_id=f"stranger-{number}")
    rows = [row.id for row in platform.rows()]

    with pytest.raises(HistoryBehind):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(tags=("refused",)))

    assert [row.id for row in platform.rows()] == rows


@pytest.mark.parametrize("delay", [0, 60])
def test_a_held_uniqueness_key_leaves_no_row(platform: Platform, delay: float) -> None:
    platform.tasks.submit(TASK, {}, options=SubmitOptions(unique="nightly"))

    assert_refused(platform, DuplicateTask, SubmitOptions(unique="nightly", delay=delay, tags=("refused",)))


def test_a_uniqueness_key_leaves_no_row_while_the_broker_is_away(platform: Platform) -> None:
    platform.valkey.stop()

    with pytest.raises(BrokerUnavailable):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(unique="nightly"))

    assert platform.rows() == []


def test_an_unsupported_option_leaves_no_row(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform.broker, "engine", None)

    with pytest.raises(Unsupported):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(unique="nightly"))
    with pytest.raises(Unsupported):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(durability=Durability.DISK))

    assert platform.rows() == []


def test_an_unconfirmed_durability_keeps_the_row_because_the_message_is_queued(platform: Platform) -> None:
    with pytest.raises(NotDurable):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(id="kept", durability=Durability.REPLICA))

    assert platform.state("kept") == TaskState.PENDING
    assert platform.sent(QUEUE) == ["kept"]


def test_a_broker_that_is_away_keeps_the_row_in_the_outbox(platform: Platform) -> None:
    platform.valkey.stop()

    assert platform.tasks.submit(TASK, {}, id="kept").state == TaskState.ACCEPTED
    assert platform.row("kept").published_at is None


@pytest.mark.parametrize(
    "short", [{"id": "m-1"}, {"priority": Priority.LOW}, {"delay": 5.0}], ids=["id", "priority", "delay"]
)
def test_options_beside_a_short_argument_are_refused(platform: Platform, short: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="either options or id, priority and delay"):
        platform.tasks.submit(TASK, {}, options=SubmitOptions(tags=("nightly",)), **short)  # pyright: ignore[reportArgumentType]

    assert platform.rows() == []
