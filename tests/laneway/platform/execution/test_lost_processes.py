"""Attempts on the engine that ended without concluding themselves: dead processes, kills from outside."""

from __future__ import annotations

from typing import Any

from laneway.engine import MessageState
from laneway.platform.errors import TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import Attempt, Completed, Raised
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from tests.fixtures.platform import Platform

PAYLOAD: dict[str, Any] = {"url": "https://example.com/", "event": "e", "data": {}}


def lost(platform: Platform, attempt: Attempt, error: Exception, *, lease: str | None = None) -> None:
    """The worker's main process concludes for a child that cannot."""
    platform.attempts.finish_for(
        attempt.task_id,
        attempt.queue,
        Raised(error),
        spec=registry[attempt.name],
        how="lost",
        worker=attempt.worker,
        lease=lease or str(attempt.lease),
    )


def test_a_lost_process_is_concluded_by_its_worker_and_its_task_goes_on_at_once(platform: Platform) -> None:
    id = platform.message()
    lost(platform, platform.start(), WorkerLost("worker-1"))

    row = platform.row(id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")
    platform.engine.ack([platform.deliveries[id]])
    assert platform.places() == {id: MessageState.READY}


def test_a_process_that_is_lost_a_second_time_is_waited_for(platform: Platform) -> None:
    """It may be the task's own doing."""
    id = platform.tasks.submit("send_webhook_response_task", PAYLOAD).task_id
    delays = list[float]()
    for _ in range(2):
        lost(platform, platform.start("webhooks"), WorkerLost("worker-1"))
        row = platform.row(id)
        assert row.due_at is not None
        assert row.published_at is not None
        delays.append((row.due_at - row.published_at).total_seconds())
        platform.engine.ack([platform.deliveries[id]])

    assert delays[0] == 0 < delays[1]


def test_a_task_over_its_time_limit_is_waited_for(platform: Platform) -> None:
    id = platform.chore()
    lost(platform, platform.start("maintenance"), TimeLimitExceeded(9))

    row = platform.row(id)
    assert (row.state, row.error_type) == ("scheduled", "TimeLimitExceeded")
    assert row.due_at is not None
    assert row.published_at is not None
    assert row.due_at > row.published_at


def test_the_end_of_the_lease_carries_out_what_was_concluded(platform: Platform) -> None:
    """The worker died as well, before the acknowledgement."""
    id = platform.message()
    lost(platform, platform.start(), WorkerLost("worker-1"))
    platform.engine.renew([platform.deliveries[id]], lease_ms=0)

    attempt = platform.start(worker="heir")
    assert attempt.number == 2
    platform.end(attempt, Completed({"n": 2}))
    assert platform.row(id).result == {"n": 2}


def test_a_process_that_was_taken_over_meanwhile_has_no_say(platform: Platform) -> None:
    id = platform.message()
    old = platform.start()
    platform.engine.renew([platform.deliveries[id]], lease_ms=0)
    new = platform.start(worker="worker-2")

    lost(platform, old, WorkerLost("worker-1"))

    assert platform.state(id) == TaskState.PROCESSING
    assert platform.end(new)
    assert platform.state(id) == TaskState.COMPLETED


def test_a_task_killed_from_outside_is_cancelled_and_its_key_goes_on(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    attempt = platform.start()

    platform.attempts.finish_for(
        first,
        "conversations",
        None,
        spec=registry["process_conversation_message_task"],
        how="killed",
        worker="worker-1",
        lease=str(attempt.lease),
    )

    assert platform.state(first) == TaskState.CANCELLED
    platform.engine.ack([platform.deliveries[first]])  # as Celery does with what was revoked
    assert platform.places() == {second: MessageState.READY}


def test_a_delivered_task_that_was_revoked_or_came_too_late_before_it_began_is_over(platform: Platform) -> None:
    for how, state in (("revoked", TaskState.CANCELLED), ("expired", TaskState.EXPIRED)):
        id = platform.chore()
        delivery = platform.fetched("maintenance")

        platform.attempts.finish_for(
            id,
            "maintenance",
            None,
            spec=registry["cleanup_old_data_task"],
            how=how,
            worker="worker-1",
            lease=str(delivery.lease),
        )
        platform.engine.ack([delivery])

        assert platform.state(id) == state
        assert platform.row(id).attempts == 0


def test_what_is_not_delivered_is_not_concluded(platform: Platform) -> None:
    id = platform.chore()

    platform.attempts.finish_for(
        id, "maintenance", None, spec=registry["cleanup_old_data_task"], how="revoked", worker="worker-1"
    )

    assert platform.state(id) == TaskState.PENDING
