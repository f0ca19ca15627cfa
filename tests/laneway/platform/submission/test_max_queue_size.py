"""MAX_QUEUE_SIZE: the number of waiting tasks that a queue takes; the delivery engine enforces it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from laneway.engine import MessageState
from laneway.platform.broker import Broker
from laneway.platform.errors import QueueFull
from laneway.platform.execution.outcomes import Raised
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform


def limited(platform: Platform, max_queue_size: int) -> TaskManager:
    """A task manager of another process, on the same servers, with a limit of its own."""
    broker = Broker(platform.app, max_queue_size=max_queue_size, max_unread=1000)
    limits = platform.settings.tasks
    return TaskManager(platform.database, broker, JournalRecorder(platform.database, broker, limits), limits)


def test_a_full_queue_refuses_and_stores_nothing(platform: Platform) -> None:
    small = limited(platform, 3)
    for _ in range(3):
        small.submit("cleanup_old_data_task", {})

    with pytest.raises(QueueFull) as refused:
        small.submit("cleanup_old_data_task", {}, id="too-many")

    assert str(refused.value) == "The queue 'maintenance' is full (3 tasks waiting, see MAX_QUEUE_SIZE)."
    assert refused.value.retry_after
    assert len(platform.rows()) == len(platform.sent("maintenance")) == 3
    assert "too-many" not in platform.places("maintenance")
    assert small.submit("generate_conversation_analytics_task", {"hours": 1}).created, "another queue has room"


def test_a_refused_task_is_accepted_under_its_id_when_there_is_room(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit("cleanup_old_data_task", {})
    with pytest.raises(QueueFull):
        small.submit("cleanup_old_data_task", {}, id="again")
    platform.take("maintenance")

    assert small.submit("cleanup_old_data_task", {}, id="again").created
    assert platform.sent("maintenance") == ["again"]


def test_a_full_queue_still_returns_the_handles_of_its_tasks(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit("cleanup_old_data_task", {}, id="first")

    assert small.submit("cleanup_old_data_task", {}, id="first").created is False
    assert platform.sent("maintenance") == ["first"]


@pytest.mark.parametrize("state", [MessageState.SCHEDULED, MessageState.HELD])
def test_scheduled_and_held_tasks_count_as_waiting(platform: Platform, state: MessageState) -> None:
    small = limited(platform, 2)
    for number in range(2):
        small.submit(
            "process_conversation_message_task",
            {"conversation_id": "c-1", "message": str(number)},
            id=f"m{number}",
            delay=60 if state is MessageState.SCHEDULED and number else 0,
        )
    if state is MessageState.SCHEDULED:
        small = limited(platform, 1)
        platform.take()
    assert platform.places()["m1"] is (state if state is MessageState.HELD else MessageState.SCHEDULED)

    with pytest.raises(QueueFull):
        small.submit("process_conversation_message_task", {"conversation_id": "c-2", "message": "no room"})


def test_running_and_finished_tasks_do_not_count_as_waiting(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit("cleanup_old_data_task", {})
    assert platform.work("maintenance")
    running = small.submit("cleanup_old_data_task", {}).task_id
    platform.fetched("maintenance")

    assert small.submit("cleanup_old_data_task", {}).created
    assert platform.places("maintenance")[running] is MessageState.LEASED
    with pytest.raises(QueueFull):
        small.submit("cleanup_old_data_task", {})


def test_dead_letters_do_not_count_as_waiting(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit("cleanup_old_data_task", {})
    platform.engine.bury([platform.fetched("maintenance")], reason="poison")

    assert small.submit("cleanup_old_data_task", {}).created


def test_a_cancelled_task_makes_room_at_once(platform: Platform) -> None:
    small = limited(platform, 1)
    platform.tasks.cancel(small.submit("cleanup_old_data_task", {}).task_id)

    assert small.submit("cleanup_old_data_task", {}).created


def test_concurrent_submitters_do_not_pass_the_limit(platform: Platform) -> None:
    limit, submitters = 5, 12
    small, together = limited(platform, limit), Barrier(12)

    def submit(_: int) -> bool:
        together.wait(10)
        try:
            return small.submit("cleanup_old_data_task", {}).created
        except QueueFull:
            return False

    for _ in range(limit - 1):
        small.submit("cleanup_old_data_task", {})
    with ThreadPoolExecutor(submitters) as pool:
        accepted = sum(pool.map(submit, range(submitters)))

    assert accepted == 1
    assert len(platform.rows()) == len(platform.sent("maintenance")) == limit
    with pytest.raises(QueueFull):
        small.submit("cleanup_old_data_task", {})


def test_the_retry_of_a_task_is_never_refused(platform: Platform) -> None:
    small = limited(platform, 1)
    running = small.submit("cleanup_old_data_task", {}).task_id
    attempt = platform.start("maintenance")
    waiting = small.submit("cleanup_old_data_task", {}).task_id

    assert platform.end(attempt, Raised(OSError("away")))

    assert platform.state(running) == TaskState.SCHEDULED
    assert platform.places("maintenance") == {running: MessageState.SCHEDULED, waiting: MessageState.READY}
    with pytest.raises(QueueFull):
        small.submit("cleanup_old_data_task", {})


def test_a_retry_by_hand_into_a_full_queue_is_accepted_and_sent_when_there_is_room(
    platform: Platform, movable_clock: MovableClock
) -> None:
    small = limited(platform, 1)
    dead = platform.brought_to(TaskState.DEAD_LETTER)
    platform.lose("conversations")
    small.submit(
        "process_conversation_message_task", {"conversation_id": "c-2", "message": "in the way"}, id="in-the-way"
    )

    assert small.retry(dead).created
    assert (platform.state(dead), platform.sent()) == (TaskState.PENDING, ["in-the-way"])
    assert platform.work() == "in-the-way"
    movable_clock.forward(60)
    assert platform.maintenance().reconcile() == 1
    assert platform.sent() == [dead]


def test_a_limit_that_a_new_process_raises_applies_to_all_processes(platform: Platform) -> None:
    old = limited(platform, 1)
    old.submit("cleanup_old_data_task", {})
    with pytest.raises(QueueFull):
        old.submit("cleanup_old_data_task", {})

    assert limited(platform, 3).submit("cleanup_old_data_task", {}).created
    assert old.submit("cleanup_old_data_task", {}).created, "the limit is the queue's, not the process's"
    with pytest.raises(QueueFull):
        old.submit("cleanup_old_data_task", {})


def test_a_limit_that_a_new_process_lowers_keeps_queued_tasks(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(4)]

    with pytest.raises(QueueFull):
        limited(platform, 2).submit("cleanup_old_data_task", {})

    assert platform.sent("maintenance") == ids
