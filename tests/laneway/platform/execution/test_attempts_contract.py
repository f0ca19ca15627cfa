"""The contract of `Attempts`, on both implementations: on the delivery engine, and on rows with another broker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from laneway.engine import EventKind
from laneway.platform.db.session import Database
from laneway.platform.errors import InvalidPayload, PermanentError, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import (
    Attempt,
    AttemptSignal,
    Completed,
    Outcome,
    Raised,
    Skip,
    Snoozed,
    Stopped,
)
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.attempts import QUEUE, EngineDriver, LedgerDriver, ledger_driver
from tests.fixtures.platform import Environment, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

AWAY = Raised(OSError("away"))


@pytest.fixture(params=["engine", "rows"])
def driver(
    request: pytest.FixtureRequest,
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
) -> Iterator[EngineDriver | LedgerDriver]:
    """Attempts on the engine and on rows, each on SQLite and on PostgreSQL."""
    if request.param == "engine":
        platform: Platform = request.getfixturevalue("platform")
        yield EngineDriver(platform)
        return
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield ledger_driver(config, app, platform_database)


def start(driver: EngineDriver | LedgerDriver, id: str | None = None, *, worker: str = "worker-1") -> Attempt:
    """Start an attempt of a task, or of a new one."""
    started = driver.start(id or driver.submit(), worker=worker)
    assert isinstance(started, Attempt), started
    return started


def test_a_started_attempt_makes_its_task_processing_on_its_worker(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver, worker="worker-7")

    row = driver.row(attempt.task_id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert (attempt.number, attempt.name, attempt.queue) == (1, "cleanup_old_data_task", QUEUE)
    assert row.started_at is not None
    assert driver.outcomes(attempt.task_id) == [(1, None)]


@pytest.mark.parametrize(
    ("outcome", "state", "outcome_name"),
    [
        (Completed({"reply": "hi"}), TaskState.COMPLETED, "completed"),
        (Stopped(), TaskState.CANCELLED, "cancelled"),
        (Raised(PermanentError("no")), TaskState.FAILED, "failed"),
        (Raised(InvalidPayload("t", ["field: wrong"])), TaskState.FAILED, "failed"),
        (AWAY, TaskState.SCHEDULED, "retry"),
        (Raised(TimeLimitExceeded(300)), TaskState.SCHEDULED, "retry"),
        (Snoozed(60, "not yet"), TaskState.SCHEDULED, "snoozed"),
    ],
)
def test_each_outcome_is_stored(
    driver: EngineDriver | LedgerDriver, outcome: Outcome, state: TaskState, outcome_name: str
) -> None:
    attempt = start(driver)

    assert driver.finish(attempt, outcome, schedule=(60.0,))

    row = driver.row(attempt.task_id)
    assert row.state == state
    assert row.result == (outcome.result if isinstance(outcome, Completed) else None)
    assert (row.finished_at is None) is (state is TaskState.SCHEDULED)
    assert (row.due_at is not None) is (state is TaskState.SCHEDULED)
    assert row.error == (str(outcome.error) if isinstance(outcome, Raised) else getattr(outcome, "reason", None))
    assert driver.outcomes(attempt.task_id) == [(1, outcome_name)]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600"])
def test_a_result_and_an_error_may_contain_any_text(driver: EngineDriver | LedgerDriver, text: str) -> None:
    done, failed = start(driver), start(driver)
    driver.finish(done, Completed({"text": text}))
    driver.finish(failed, Raised(ValueError(f"no: {text}")))

    assert driver.row(done.task_id).result == {"text": text}
    assert (driver.row(failed.task_id).error or "").startswith("no: ")


def test_a_task_is_a_dead_letter_after_its_last_retry(driver: EngineDriver | LedgerDriver) -> None:
    id, states = driver.submit(), list[TaskState]()
    for number in range(1, 5):
        attempt = start(driver, id)
        assert attempt.number == number
        driver.finish(attempt, AWAY)
        states.append(driver.state(id))

    assert states == [TaskState.SCHEDULED] * 3 + [TaskState.DEAD_LETTER]
    row = driver.row(id)
    assert (row.attempts, row.error, row.finished_at is not None) == (4, "away", True)
    assert driver.outcomes(id) == [(1, "retry"), (2, "retry"), (3, "retry"), (4, "dead_letter")]


def test_a_snoozed_attempt_does_not_count(driver: EngineDriver | LedgerDriver) -> None:
    id = driver.submit()
    for _ in range(5):
        driver.finish(start(driver, id), Snoozed(0))
    attempt = start(driver, id)
    assert attempt.number == 1
    driver.finish(attempt)

    assert (driver.state(id), driver.row(id).attempts) == (TaskState.COMPLETED, 1)
    assert driver.outcomes(id) == [*((number, "snoozed") for number in range(1, 6)), (6, "completed")]


def test_another_worker_takes_over_the_task_of_a_dead_worker_and_the_lost_attempt_counts(
    driver: EngineDriver | LedgerDriver,
) -> None:
    old = start(driver, worker="dead")
    driver.lose_worker(old)

    new = start(driver, old.task_id, worker="successor")

    assert new.number == 2
    row = driver.row(old.task_id)
    assert (row.state, row.worker, row.error_type, "dead" in (row.error or "")) == (
        "processing",
        "successor",
        "WorkerLost",
        True,
    )
    assert driver.finish(old) is False
    assert driver.finish(new)
    assert driver.outcomes(old.task_id) == [(1, "lost"), (2, "completed")]


def test_a_lost_attempt_changes_nothing(driver: EngineDriver | LedgerDriver) -> None:
    old = start(driver, worker="stalled")
    driver.lose_worker(old)
    new = start(driver, old.task_id, worker="fresh")
    before = vars_of(driver.row(old.task_id))

    for outcome in (Completed({"from": "the old attempt"}), Raised(ValueError("old")), AWAY, Snoozed(9), Stopped()):
        assert driver.finish(old, outcome) is False
    assert driver.attempts.report(old, EventKind.PROGRESS, {"percent": 99, "message": "old"}) is AttemptSignal.LOST
    assert driver.attempts.check_cancelled([old, new]) == [AttemptSignal.LOST, AttemptSignal.CONTINUE]
    assert vars_of(driver.row(old.task_id)) == before
    assert driver.finish(new, Completed({"from": "the new attempt"}))
    assert driver.row(old.task_id).result == {"from": "the new attempt"}


def test_an_attempt_from_before_a_retry_by_hand_changes_nothing(driver: EngineDriver | LedgerDriver) -> None:
    """Its number and its worker are those of the new attempt."""
    id = driver.submit()
    old = start(driver, id)
    driver.lose_worker(old)
    second = start(driver, id)
    driver.finish(second, Raised(ValueError("wrong")))
    driver.tasks.retry(id)
    new = start(driver, id)
    assert (old.number, new.number, old.worker) == (1, 1, new.worker)

    assert driver.attempts.check_cancelled([old, second, new]) == [
        AttemptSignal.LOST,
        AttemptSignal.LOST,
        AttemptSignal.CONTINUE,
    ]
    assert driver.attempts.report(old, EventKind.PROGRESS, {"percent": 99}) is AttemptSignal.LOST
    assert driver.finish(old, Completed({"from": "the old attempt"})) is False
    assert driver.state(id) == TaskState.PROCESSING
    assert driver.finish(new)
    assert driver.outcomes(id) == [(1, "lost"), (2, "failed"), (3, "completed")]


def test_the_first_result_of_an_attempt_stands(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)
    result = driver.attempts.policy.decide(attempt, Completed({"n": 1}))
    assert driver.attempts.finish(attempt, result)

    driver.attempts.finish(attempt, driver.attempts.policy.decide(attempt, Completed({"n": 2})))
    driver.finish(attempt, Raised(ValueError("late")))

    assert (driver.state(attempt.task_id), driver.row(attempt.task_id).result) == (TaskState.COMPLETED, {"n": 1})
    assert driver.event_kinds(attempt.task_id).count("end") == 1


def test_of_two_simultaneous_results_one_is_stored(driver: EngineDriver | LedgerDriver) -> None:
    """One comes from the task, the other from the main process, which believes that the task's process died."""
    for _ in range(10):
        attempt, together = start(driver), Barrier(2)

        def finish(outcome: Outcome, attempt: Attempt = attempt, together: Barrier = together) -> bool:
            result = driver.attempts.policy.decide(attempt, outcome)
            together.wait(10)
            return driver.attempts.finish(attempt, result)

        with ThreadPoolExecutor(2) as pool:
            stored = list(pool.map(finish, [Completed({}), Stopped()]))

        assert any(stored)
        state = driver.state(attempt.task_id)
        assert driver.outcomes(attempt.task_id) == [(1, state.value)]
        assert driver.event_kinds(attempt.task_id).count("end") == 1


def test_a_task_that_kills_its_workers_becomes_a_dead_letter(driver: EngineDriver | LedgerDriver) -> None:
    id, tries = driver.submit(), 4
    for number in range(1, tries + 1):
        attempt = start(driver, id, worker=f"victim-{number}")
        assert attempt.number == number
        driver.lose_worker(attempt)

    skip = Skip("it has had all its attempts, and the last one lost its worker")
    assert driver.start(id, worker="survivor") == skip

    row = driver.row(id)
    assert (row.state, row.attempts, row.error_type) == ("dead_letter", tries, "WorkerLost")
    assert row.error == "The worker died or stalled while it ran the last of 4 attempts."
    assert row.finished_at is not None
    assert driver.outcomes(id) == [(number, "lost") for number in range(1, tries + 1)]


def test_a_cancelled_task_is_not_run_again_after_its_worker_died(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver, worker="dead")
    driver.tasks.cancel(attempt.task_id)
    driver.lose_worker(attempt)

    if isinstance(driver, EngineDriver):
        assert driver.platform.fetch(QUEUE) is None, "it is not delivered at all"
    else:
        assert driver.start(attempt.task_id, worker="worker-2") == Skip("it was cancelled")

    assert driver.state(attempt.task_id) == TaskState.CANCELLED
    assert driver.outcomes(attempt.task_id) == [(1, "lost")]


# --- progress, cancel ---------------------------------------------------------------------------------------


def test_progress_is_stored_and_returns_whether_to_stop(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)

    assert (
        driver.attempts.report(attempt, EventKind.PROGRESS, {"percent": 30, "message": "reading"})
        is AttemptSignal.CONTINUE
    )
    driver.tasks.cancel(attempt.task_id)
    assert (
        driver.attempts.report(attempt, EventKind.PROGRESS, {"percent": 60, "message": "writing"})
        is AttemptSignal.CANCEL
    )

    row = driver.row(attempt.task_id)
    assert (row.progress, row.progress_message, row.cancel_requested) == (60, "writing", True)


def test_log_lines_and_output_become_events(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)
    driver.attempts.report(attempt, EventKind.LOG, {"event": "a line"})
    driver.attempts.report(attempt, EventKind.OUTPUT, {"first": 0, "chunks": ["a token"]})
    driver.finish(attempt)

    assert driver.event_kinds(attempt.task_id)[-4:] == ["begin", "log", "output", "end"]


def test_each_attempt_gets_its_own_signal(driver: EngineDriver | LedgerDriver) -> None:
    running, cancelled, finished = (start(driver) for _ in range(3))
    driver.tasks.cancel(cancelled.task_id)
    driver.finish(finished)

    assert driver.attempts.check_cancelled([running, cancelled, finished]) == [
        AttemptSignal.CONTINUE,
        AttemptSignal.CANCEL,
        AttemptSignal.LOST,
    ]
    assert driver.attempts.check_cancelled([]) == []


def test_a_cancelled_task_that_fails_is_not_retried(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)
    driver.tasks.cancel(attempt.task_id)
    attempt.cancel_requested = True  # as the cancellation watchdog sets it

    driver.finish(attempt, AWAY)

    assert driver.state(attempt.task_id) == TaskState.CANCELLED


# --- finished by the main process ---------------------------------------------------------------------------


def lease_of(attempt: Attempt) -> str | None:
    return str(attempt.lease) if attempt.lease else None


def test_the_main_process_finishes_the_task_of_a_dead_process(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)

    driver.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        Raised(WorkerLost("worker-1")),
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
        lease=lease_of(attempt),
    )

    row = driver.row(attempt.task_id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")
    assert driver.outcomes(attempt.task_id) == [(1, "retry")]


@pytest.mark.parametrize("how", ["killed", "revoked"])
def test_a_task_that_celery_killed_or_revoked_is_cancelled(driver: EngineDriver | LedgerDriver, how: str) -> None:
    attempt = start(driver)

    driver.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        None,
        spec=registry["cleanup_old_data_task"],
        how=how,
        worker="worker-1",
        lease=lease_of(attempt),
    )

    assert driver.state(attempt.task_id) == TaskState.CANCELLED
    assert driver.outcomes(attempt.task_id) == [(1, "cancelled")]


def test_a_cancelled_task_whose_process_died_is_cancelled(driver: EngineDriver | LedgerDriver) -> None:
    attempt = start(driver)
    driver.tasks.cancel(attempt.task_id)

    driver.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        Raised(WorkerLost("worker-1")),
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
    )

    assert driver.state(attempt.task_id) == TaskState.CANCELLED


@pytest.mark.parametrize("case", ["taken over", "finished", "unknown"])
@pytest.mark.parametrize("outcome", [Raised(WorkerLost("worker-1")), None])
def test_a_dead_process_changes_nothing_after_its_task_was_taken_over(
    driver: EngineDriver | LedgerDriver, case: str, outcome: Raised | None
) -> None:
    old = start(driver)
    if case == "taken over":
        driver.lose_worker(old)
        start(driver, old.task_id, worker="worker-2")
    elif case == "finished":
        driver.finish(old)
    before = vars_of(driver.row(old.task_id))

    driver.attempts.finish_for(
        "nobody" if case == "unknown" else old.task_id,
        QUEUE,
        outcome,
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
        lease=lease_of(old),
    )

    assert vars_of(driver.row(old.task_id)) == before


def vars_of(row: object) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
