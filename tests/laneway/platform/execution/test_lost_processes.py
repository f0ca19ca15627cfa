"""Attempts on the engine whose process cannot finish them: it died, or it was killed."""

from __future__ import annotations

from typing import Any

import pytest
from billiard.exceptions import WorkerLostError

from laneway.engine import MessageState
from laneway.platform.errors import TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import Attempt, Completed, Raised
from laneway.platform.execution.request import end_of_process
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

PAYLOAD: dict[str, Any] = {"url": "https://example.com/", "event": "e", "data": {}}


def lost(status: str) -> WorkerLostError:
    """The error that billiard's pool reports for a process that ended."""
    return WorkerLostError(f"Worker exited prematurely: {status} Job: 17.")


def finish_lost(platform: Platform, attempt: Attempt, error: Exception, *, lease: str | None = None) -> None:
    """Finish an attempt as the worker's main process does when a child died."""
    platform.attempts.finish_for(
        attempt.task_id,
        attempt.queue,
        Raised(error),
        spec=registry[attempt.name],
        how="lost",
        worker=attempt.worker,
        lease=lease or str(attempt.lease),
    )


def test_a_task_runs_again_at_once_after_its_process_died_for_the_first_time(platform: Platform) -> None:
    id = platform.message()
    finish_lost(platform, platform.start(), WorkerLost("worker-1"))

    row = platform.row(id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")
    platform.engine.ack([platform.deliveries[id]])
    assert platform.places() == {id: MessageState.READY}


def test_a_task_runs_again_after_a_delay_when_its_process_died_twice(platform: Platform) -> None:
    """The task itself may be the cause."""
    id = platform.tasks.submit("send_webhook_response_task", PAYLOAD).task_id
    delays = list[float]()
    for _ in range(2):
        finish_lost(platform, platform.start("webhooks"), WorkerLost("worker-1"))
        row = platform.row(id)
        assert row.due_at is not None
        assert row.published_at is not None
        delays.append((row.due_at - row.published_at).total_seconds())
        platform.engine.ack([platform.deliveries[id]])

    assert delays[0] == 0 < delays[1]


def test_a_task_over_its_time_limit_runs_again_after_a_delay(platform: Platform) -> None:
    id = platform.chore()
    finish_lost(platform, platform.start("maintenance"), TimeLimitExceeded(9))

    row = platform.row(id)
    assert (row.state, row.error_type) == ("scheduled", "TimeLimitExceeded")
    assert row.due_at is not None
    assert row.published_at is not None
    assert row.due_at > row.published_at


def test_the_end_of_the_lease_carries_the_result_out(platform: Platform) -> None:
    """The main process died as well, before the acknowledgement."""
    id = platform.message()
    finish_lost(platform, platform.start(), WorkerLost("worker-1"))
    platform.engine.renew([platform.deliveries[id]], lease_ms=0)

    attempt = platform.start(worker="successor")
    assert attempt.number == 2
    platform.end(attempt, Completed({"n": 2}))
    assert platform.row(id).result == {"n": 2}


def test_a_dead_process_changes_nothing_after_its_task_was_taken_over(platform: Platform) -> None:
    id = platform.message()
    old = platform.start()
    platform.engine.renew([platform.deliveries[id]], lease_ms=0)
    new = platform.start(worker="worker-2")

    finish_lost(platform, old, WorkerLost("worker-1"))

    assert platform.state(id) == TaskState.PROCESSING
    assert platform.end(new)
    assert platform.state(id) == TaskState.COMPLETED


def test_a_killed_task_is_cancelled_and_the_next_task_of_its_key_is_ready(platform: Platform) -> None:
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
    platform.engine.ack([platform.deliveries[first]])  # as Celery acknowledges a revoked task
    assert platform.places() == {second: MessageState.READY}


def test_a_delivered_task_that_was_revoked_or_late_before_its_start_ends(platform: Platform) -> None:
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


def test_a_task_that_is_not_delivered_is_not_finished(platform: Platform) -> None:
    id = platform.chore()

    platform.attempts.finish_for(
        id, "maintenance", None, spec=registry["cleanup_old_data_task"], how="revoked", worker="worker-1"
    )

    assert platform.state(id) == TaskState.PENDING


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (lost("signal 9 (SIGKILL)"), "was killed by SIGKILL, for example by the system because memory was short"),
        (lost("signal 11 (SIGSEGV)"), "was killed by SIGSEGV"),
        (lost("exitcode 3"), "ended with exit code 3"),
        (SystemExit(2), "called sys.exit(2)"),
        (WorkerLostError("no details"), ""),
    ],
)
def test_the_end_of_a_process_is_told_in_words(error: BaseException, how: str) -> None:
    assert end_of_process(error) == how
    assert str(WorkerLost("w@here", how=how)) == (
        f"The process of the worker w@here that ran the task {how}."
        if how
        else "The worker w@here died or stalled while it ran the task."
    )
