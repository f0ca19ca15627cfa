"""Attempts on rows, with a broker without the engine: which worker may run a task, and which one takes it over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from app.core.settings import Settings
from laneway.platform import clock
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import WorkerLost
from laneway.platform.execution.ledger_attempts import ALIVE_SHARE, LOST_ATTEMPT_HEADER, LedgerAttempts
from laneway.platform.execution.outcomes import Attempt, Raised, Skip
from laneway.platform.operations.maintenance import Maintenance
from laneway.schemas.task import TaskState
from tests.fixtures.attempts import LedgerDriver, ledger_driver
from tests.fixtures.claiming import start_attempts
from tests.fixtures.forking import run_in_children
from tests.fixtures.platform import Environment, MovableClock, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

LEASE = 100.0
"""Seconds. So long that a slow machine cannot make a worker look dead within a test."""


@pytest.fixture
def config(environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path) -> Settings:
    """Settings with kombu's own transport, on SQLite and on PostgreSQL."""
    return settings_for(
        environment,
        platform_database,
        redis_urls,
        folder=tmp_path,
        BROKER_TRANSPORT="celery",
        TASK_LEASE_SECONDS=str(LEASE),
    )


@pytest.fixture
def driver(config: Settings, platform_database: Database) -> Iterator[LedgerDriver]:
    """Tasks and attempts on rows."""
    with celery_on(config) as app:
        yield ledger_driver(config, app, platform_database)


def report_worker(driver: LedgerDriver, worker: str = "worker-1") -> Maintenance:
    """Let a worker report, as its maintenance thread does."""
    maintenance = Maintenance(
        driver.database,
        driver.broker,
        driver.tasks,
        driver.recorder,
        driver.reconciliation,
        name=worker,
        queues=["maintenance"],
        lease_seconds=LEASE,
    )
    maintenance.report()
    return maintenance


def start(driver: LedgerDriver, id: str | None = None, *, worker: str = "worker-1", headers: Any = None) -> Attempt:
    started = driver.start(id or driver.submit(), worker=worker, headers=headers)
    assert isinstance(started, Attempt), started
    return started


def test_a_second_delivery_of_an_ended_task_is_skipped(driver: LedgerDriver) -> None:
    attempt = start(driver)
    driver.finish(attempt)

    assert driver.start(attempt.task_id, worker="worker-2") == Skip("it is completed")


def test_a_message_without_a_row_gets_one_and_is_retried_like_any_task(driver: LedgerDriver) -> None:
    attempt = start(driver, "from-beat")
    assert attempt.max_retries == 3
    driver.finish(attempt, Raised(OSError("away")))
    assert driver.state("from-beat") == TaskState.SCHEDULED
    driver.finish(start(driver, "from-beat"))

    assert (driver.state("from-beat"), driver.row("from-beat").attempts) == (TaskState.COMPLETED, 2)


def test_a_result_is_stored_although_the_broker_cannot_take_the_retry(
    driver: LedgerDriver, redis_urls: RedisUrls
) -> None:
    attempt = start(driver)
    redis_urls.valkey.stop()
    try:
        assert driver.finish(attempt, Raised(OSError("away")))
    finally:
        redis_urls.valkey.start()

    assert driver.state(attempt.task_id) == TaskState.SCHEDULED


def test_of_many_threads_that_start_one_task_one_succeeds(driver: LedgerDriver) -> None:
    for worker in "abcdef":
        report_worker(driver, worker)
    for _ in range(10):
        id, together = driver.submit(), Barrier(6)

        def start_at_once(worker: str, id: str = id, together: Barrier = together) -> Attempt | Skip:
            together.wait(10)
            return driver.start(id, worker=worker)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(start_at_once, "abcdef"))

        (won,) = (answer for answer in answers if isinstance(answer, Attempt))
        assert [answer.busy for answer in answers if isinstance(answer, Skip)] == [True] * 5
        assert (driver.row(id).worker, driver.row(id).attempts) == (won.worker, 1)


def test_of_many_processes_that_start_the_same_tasks_each_task_gets_one(
    driver: LedgerDriver, config: Settings, tmp_path: Path
) -> None:
    ids = [driver.submit() for _ in range(30)]

    won = start_in_processes(driver, config, ids, tmp_path, processes=2)

    assert sorted(id for started in won.values() for id in started) == sorted(ids), "each once"
    assert all(driver.row(id).worker == worker for worker, started in won.items() for id in started)


# --- a delivery while the task runs, or after its worker died -----------------------------------------------


def test_a_second_delivery_is_put_off_while_a_living_worker_runs_the_task(driver: LedgerDriver) -> None:
    report_worker(driver)
    id = start(driver).task_id

    assert driver.start(id, worker="worker-2") == Skip("worker-1 runs it", busy=True)
    assert driver.start(id, worker="worker-1") == Skip("worker-1 runs it", busy=True)
    assert (driver.row(id).attempts, driver.row(id).worker) == (1, "worker-1")


@pytest.mark.parametrize(("silent", "taken"), [(ALIVE_SHARE - 0.05, False), (ALIVE_SHARE + 0.05, True)])
def test_a_worker_counts_as_alive_for_a_share_of_the_lease_after_its_report(
    driver: LedgerDriver, movable_clock: MovableClock, silent: float, taken: bool
) -> None:
    report_worker(driver)
    id = start(driver).task_id
    movable_clock.forward(silent * LEASE)

    assert isinstance(driver.start(id, worker="worker-2"), Attempt) is taken


def test_a_worker_that_keeps_reporting_keeps_its_long_task(driver: LedgerDriver, movable_clock: MovableClock) -> None:
    maintenance = report_worker(driver)
    id = start(driver).task_id
    movable_clock.forward(3600)
    maintenance.report()

    assert driver.start(id, worker="worker-2") == Skip("worker-1 runs it", busy=True)


def test_a_restarted_worker_of_the_same_name_does_not_own_the_earlier_attempt(
    driver: LedgerDriver, movable_clock: MovableClock
) -> None:
    report_worker(driver)
    old = start(driver)
    movable_clock.forward(0.01)
    report_worker(driver)  # a new process, which started after the attempt

    new = start(driver, old.task_id)

    assert (new.number, driver.row(old.task_id).error_type) == (2, "WorkerLost")
    assert driver.finish(old) is False


def test_a_worker_that_signed_off_counts_as_dead(driver: LedgerDriver) -> None:
    maintenance = report_worker(driver)
    old = start(driver)
    maintenance.sign_off()

    assert start(driver, old.task_id, worker="worker-2").number == 2


def test_an_attempt_that_the_header_names_as_lost_is_taken_over_from_a_living_worker(driver: LedgerDriver) -> None:
    report_worker(driver)
    old = start(driver)

    new = start(driver, old.task_id, headers={LOST_ATTEMPT_HEADER: 1})

    assert (new.number, driver.row(old.task_id).error_type) == (2, "WorkerLost")
    again = driver.start(old.task_id, worker="worker-1", headers={LOST_ATTEMPT_HEADER: 1})
    assert again == Skip("worker-1 runs it", busy=True), "the header names the first attempt only"


def test_of_many_simultaneous_takeovers_one_succeeds_and_one_lost_attempt_counts(driver: LedgerDriver) -> None:
    names = "abcdef"
    for name in names:
        report_worker(driver, name)
    for _ in range(10):
        id, together = start(driver, worker="dead").task_id, Barrier(len(names))

        def start_at_once(worker: str, id: str = id, together: Barrier = together) -> Attempt | Skip:
            together.wait(10)
            return driver.start(id, worker=worker)

        with ThreadPoolExecutor(len(names)) as pool:
            answers = list(pool.map(start_at_once, names))

        assert [answer.number for answer in answers if isinstance(answer, Attempt)] == [2]
        assert [answer.busy for answer in answers if isinstance(answer, Skip)] == [True] * 5
        assert driver.outcomes(id) == [(1, "lost"), (2, None)]


# --- finished by the main process ---------------------------------------------------------------------------


def test_a_waiting_task_is_cancelled_when_revoked_and_expired_when_late(
    driver: LedgerDriver,
) -> None:
    revoked, late = driver.submit(), driver.submit()
    for id, how in ((revoked, "revoked"), (late, "expired")):
        driver.attempts.finish_for(id, "maintenance", None, spec=None, how=how, worker="worker-1")

    assert [driver.state(id) for id in (revoked, late)] == [TaskState.CANCELLED, TaskState.EXPIRED]
    assert driver.start(revoked) == Skip("it is cancelled")


def test_a_task_whose_process_died_before_the_attempt_started_still_waits(driver: LedgerDriver) -> None:
    id = driver.submit()
    driver.attempts.finish_for(id, "maintenance", Raised(WorkerLost("worker-1")), spec=None, how="lost", worker="w")

    assert driver.state(id) == TaskState.PENDING
    assert driver.finish(start(driver, id))


def test_a_task_that_another_worker_runs_is_not_changed(driver: LedgerDriver) -> None:
    attempt = start(driver, worker="worker-2")

    driver.attempts.finish_for(attempt.task_id, "maintenance", None, spec=None, how="killed", worker="worker-1")

    assert driver.finish(attempt)


def test_a_started_attempt_is_in_the_database_at_once(driver: LedgerDriver) -> None:
    """There is no journal that would have to be recorded first."""
    attempt = start(driver)
    with driver.database.reading() as session:
        run = task_runs.find(session, attempt.task_id)
    assert run is not None
    assert run.state == TaskState.PROCESSING
    assert run.started_at is not None
    assert abs((clock.now() - run.started_at).total_seconds()) < 30


def start_in_processes(
    driver: LedgerDriver, config: Settings, ids: list[str], folder: Path, *, processes: int
) -> dict[str, list[str]]:
    """Let several processes start all tasks at the same moment; returns worker → ids of the tasks that it started."""
    names = [f"worker-{number}" for number in range(processes)]
    for worker in names:
        report_worker(driver, worker)

    def starts(worker: str) -> Callable[[], object]:
        return lambda: (folder / worker).write_text(json.dumps(start_attempts(config.storage.url, worker, ids)))

    run_in_children(*map(starts, names), seconds=60)
    return {worker: json.loads((folder / worker).read_text()) for worker in names}


@pytest.mark.parametrize("is_known", [True, False], ids=["a task with a row", "a task without a row"])
def test_a_task_that_no_worker_takes_is_a_dead_letter_that_keeps_its_payload(
    driver: LedgerDriver, *, is_known: bool
) -> None:
    attempts, id = driver.attempts, driver.submit() if is_known else "unknown"
    assert isinstance(attempts, LedgerAttempts)
    for error in ("No worker knows it.", "A second delivery changes nothing."):
        attempts.bury(id, "nobody", {"a": 1}, queue="maintenance", reason="unregistered", error=error)
    with driver.database.reading() as session:
        run = task_runs.get(session, id)
    assert (run.state, run.error) == (TaskState.DEAD_LETTER, "unregistered: No worker knows it.")
    assert (run.name, run.payload) == (("cleanup_old_data_task", {}) if is_known else ("nobody", {"a": 1}))
