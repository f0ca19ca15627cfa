"""MAX_QUEUE_SIZE: a queue takes so many waiting tasks; the delivery engine keeps the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from app.core import catalog
from app.core.errors import QueueFull
from app.schemas.task import State
from app.services.broker import Broker
from app.services.history import History
from app.services.outcomes import Raised
from app.services.task_manager import TaskManager
from laneway import State as Place
from tests.fixtures.platform import MovableClock, Platform


def limited(platform: Platform, max_queue_size: int) -> TaskManager:
    """A task manager of another process, on the same servers, with a limit of its own."""
    broker = Broker(platform.app, max_queue_size=max_queue_size, max_unread=1000)
    limits = platform.settings.tasks
    return TaskManager(platform.database, broker, History(platform.database, broker, limits), limits)


def test_a_full_queue_refuses_and_stores_nothing(platform: Platform) -> None:
    small = limited(platform, 3)
    for _ in range(3):
        small.submit(catalog.CLEANUP, {})

    with pytest.raises(QueueFull) as refused:
        small.submit(catalog.CLEANUP, {}, id="too-many")

    assert str(refused.value) == "The queue 'maintenance' is full (3 tasks waiting, see MAX_QUEUE_SIZE)."
    assert refused.value.retry_after
    assert len(platform.rows()) == len(platform.sent("maintenance")) == 3
    assert "too-many" not in platform.places("maintenance")
    assert small.submit(catalog.ANALYTICS_REPORT, {"hours": 1}).created, "another queue has room"


def test_what_was_refused_is_taken_under_the_same_id_when_there_is_room(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit(catalog.CLEANUP, {})
    with pytest.raises(QueueFull):
        small.submit(catalog.CLEANUP, {}, id="again")
    platform.take("maintenance")

    assert small.submit(catalog.CLEANUP, {}, id="again").created
    assert platform.sent("maintenance") == ["again"]


def test_a_full_queue_still_answers_for_what_it_has(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit(catalog.CLEANUP, {}, id="first")

    assert small.submit(catalog.CLEANUP, {}, id="first").created is False
    assert platform.sent("maintenance") == ["first"]


@pytest.mark.parametrize("place", [Place.SCHEDULED, Place.HELD])
def test_scheduled_and_held_tasks_count_as_waiting(platform: Platform, place: Place) -> None:
    small = limited(platform, 2)
    for number in range(2):
        small.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-1", "text": str(number)}, id=f"m{number}",
                     delay=60 if place is Place.SCHEDULED and number else 0)  # fmt: skip
    if place is Place.SCHEDULED:
        small = limited(platform, 1)
        platform.take()
    assert platform.places()["m1"] is (place if place is Place.HELD else Place.SCHEDULED)

    with pytest.raises(QueueFull):
        small.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-2", "text": "no room"})


def test_what_runs_or_is_over_does_not_count_as_waiting(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit(catalog.CLEANUP, {})
    assert platform.work("maintenance")
    running = small.submit(catalog.CLEANUP, {}).task_id
    platform.fetched("maintenance")

    assert small.submit(catalog.CLEANUP, {}).created
    assert platform.places("maintenance")[running] is Place.LEASED
    with pytest.raises(QueueFull):
        small.submit(catalog.CLEANUP, {})


def test_dead_letters_do_not_count_as_waiting(platform: Platform) -> None:
    small = limited(platform, 1)
    small.submit(catalog.CLEANUP, {})
    platform.engine.bury([platform.fetched("maintenance")], reason="poison")

    assert small.submit(catalog.CLEANUP, {}).created


def test_a_cancelled_task_makes_room_at_once(platform: Platform) -> None:
    small = limited(platform, 1)
    platform.tasks.cancel(small.submit(catalog.CLEANUP, {}).task_id)

    assert small.submit(catalog.CLEANUP, {}).created


def test_concurrent_submitters_do_not_pass_the_limit(platform: Platform) -> None:
    limit, submitters = 5, 12
    small, together = limited(platform, limit), Barrier(12)

    def submit(_: int) -> bool:
        together.wait(10)
        try:
            return small.submit(catalog.CLEANUP, {}).created
        except QueueFull:
            return False

    for _ in range(limit - 1):
        small.submit(catalog.CLEANUP, {})
    with ThreadPoolExecutor(submitters) as pool:
        accepted = sum(pool.map(submit, range(submitters)))

    assert accepted == 1
    assert len(platform.rows()) == len(platform.sent("maintenance")) == limit
    with pytest.raises(QueueFull):
        small.submit(catalog.CLEANUP, {})


def test_the_retry_of_a_task_is_never_refused(platform: Platform) -> None:
    small = limited(platform, 1)
    running = small.submit(catalog.CLEANUP, {}).task_id
    attempt = platform.start("maintenance")
    waiting = small.submit(catalog.CLEANUP, {}).task_id

    assert platform.end(attempt, Raised(OSError("away")))

    assert platform.state(running) == State.SCHEDULED
    assert platform.places("maintenance") == {running: Place.SCHEDULED, waiting: Place.READY}
    with pytest.raises(QueueFull):
        small.submit(catalog.CLEANUP, {})


def test_a_retry_by_hand_into_a_full_queue_is_accepted_and_sent_when_there_is_room(
    platform: Platform, movable_clock: MovableClock
) -> None:
    small = limited(platform, 1)
    dead = platform.brought_to(State.DEAD_LETTER)
    platform.lose("conversations")
    small.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-2", "text": "in the way"}, id="in-the-way")

    assert small.retry(dead).created
    assert (platform.state(dead), platform.sent()) == (State.PENDING, ["in-the-way"])
    assert platform.work() == "in-the-way"
    movable_clock.forward(60)
    assert platform.steward().reconcile() == 1
    assert platform.sent() == [dead]


def test_a_limit_that_a_new_process_raises_holds_for_all(platform: Platform) -> None:
    old = limited(platform, 1)
    old.submit(catalog.CLEANUP, {})
    with pytest.raises(QueueFull):
        old.submit(catalog.CLEANUP, {})

    assert limited(platform, 3).submit(catalog.CLEANUP, {}).created
    assert old.submit(catalog.CLEANUP, {}).created, "the limit is the queue's, not the process's"
    with pytest.raises(QueueFull):
        old.submit(catalog.CLEANUP, {})


def test_a_limit_that_a_new_process_lowers_keeps_what_is_inside(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(4)]

    with pytest.raises(QueueFull):
        limited(platform, 2).submit(catalog.CLEANUP, {})

    assert platform.sent("maintenance") == ids
