"""Attempts on rows, beneath a broker without the engine: who may run a task now, and who takes over from the dead."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from app.core.settings import ROOT, Settings
from laneway.platform import clock
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import WorkerLost
from laneway.platform.execution.ledger_attempts import ALIVE_SHARE, LOST_ATTEMPT_HEADER
from laneway.platform.execution.outcomes import Attempt, Raised, Skip
from laneway.platform.operations.maintenance import Maintenance
from laneway.platform.schemas.task import TaskState
from tests.fixtures.attempts import StockDesk, stock_desk
from tests.fixtures.platform import Environment, MovableClock, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

LEASE = 10.0


@pytest.fixture
def config(environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path) -> Settings:
    """Settings with kombu's own transport; on SQLite and on PostgreSQL."""
    return settings_for(
        environment,
        platform_database,
        redis_urls,
        folder=tmp_path,
        BROKER_TRANSPORT="celery",
        TASK_LEASE_SECONDS=str(LEASE),
    )


@pytest.fixture
def desk(config: Settings, platform_database: Database) -> Iterator[StockDesk]:
    """Tasks and attempts on rows."""
    with celery_on(config) as app:
        yield stock_desk(config, app, platform_database)


def alive(desk: StockDesk, worker: str = "worker-1") -> Maintenance:
    """Have a worker report, as its steward does."""
    steward = Maintenance(
        desk.database, desk.broker, desk.tasks, desk.recorder, name=worker, queues=["maintenance"], lease_seconds=LEASE
    )
    steward.report()
    return steward


def start(desk: StockDesk, id: str | None = None, *, worker: str = "worker-1", headers: Any = None) -> Attempt:
    begun = desk.begin(id or desk.chore(), worker=worker, headers=headers)
    assert isinstance(begun, Attempt), begun
    return begun


def test_a_second_delivery_of_what_is_over_is_refused(desk: StockDesk) -> None:
    attempt = start(desk)
    desk.end(attempt)

    assert desk.begin(attempt.task_id, worker="worker-2") == Skip("it is completed")


def test_a_message_without_a_row_is_adopted_once_and_tried_as_often_as_any(desk: StockDesk) -> None:
    attempt = start(desk, "from-beat")
    assert attempt.max_retries == 3
    desk.end(attempt, Raised(OSError("away")))
    assert desk.state("from-beat") == TaskState.SCHEDULED
    desk.end(start(desk, "from-beat"))

    assert (desk.state("from-beat"), desk.row("from-beat").attempts) == (TaskState.COMPLETED, 2)


def test_a_retry_is_handed_to_the_broker_and_its_outcome_stands_if_that_is_away(
    desk: StockDesk, redis_urls: RedisUrls
) -> None:
    attempt = start(desk)
    redis_urls.valkey.stop()
    try:
        assert desk.end(attempt, Raised(OSError("away")))
    finally:
        redis_urls.valkey.start()

    assert desk.state(attempt.task_id) == TaskState.SCHEDULED


def test_of_many_threads_that_begin_one_task_one_does(desk: StockDesk) -> None:
    for worker in "abcdef":
        alive(desk, worker)
    for _ in range(10):
        id, together = desk.chore(), Barrier(6)

        def begin(worker: str, id: str = id, together: Barrier = together) -> Attempt | Skip:
            together.wait(10)
            return desk.begin(id, worker=worker)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(begin, "abcdef"))

        (won,) = (answer for answer in answers if isinstance(answer, Attempt))
        assert [answer.busy for answer in answers if isinstance(answer, Skip)] == [True] * 5
        assert (desk.row(id).worker, desk.row(id).attempts) == (won.worker, 1)


def test_of_many_processes_that_begin_the_same_tasks_each_task_has_one(desk: StockDesk, config: Settings) -> None:
    chores = [desk.chore() for _ in range(30)]

    won = begun_by_processes(desk, config, chores, processes=2)

    assert sorted(id for ids in won.values() for id in ids) == sorted(chores), "each once"
    assert all(desk.row(id).worker == worker for worker, ids in won.items() for id in ids)


# --- who comes while it runs, or after its worker died ------------------------------------------------------


def test_a_second_delivery_of_what_a_living_worker_runs_is_put_off(desk: StockDesk) -> None:
    alive(desk)
    id = start(desk).task_id

    assert desk.begin(id, worker="worker-2") == Skip("worker-1 runs it", busy=True)
    assert desk.begin(id, worker="worker-1") == Skip("worker-1 runs it", busy=True)
    assert (desk.row(id).attempts, desk.row(id).worker) == (1, "worker-1")


@pytest.mark.parametrize(("silent", "taken"), [(ALIVE_SHARE - 0.05, False), (ALIVE_SHARE + 0.05, True)])
def test_a_worker_lives_while_it_reported_within_a_part_of_the_lease(
    desk: StockDesk, movable_clock: MovableClock, silent: float, taken: bool
) -> None:
    alive(desk)
    id = start(desk).task_id
    movable_clock.forward(silent * LEASE)

    assert isinstance(desk.begin(id, worker="worker-2"), Attempt) is taken


def test_a_worker_that_reports_on_keeps_its_long_task(desk: StockDesk, movable_clock: MovableClock) -> None:
    steward = alive(desk)
    id = start(desk).task_id
    movable_clock.forward(3600)
    steward.report()

    assert desk.begin(id, worker="worker-2") == Skip("worker-1 runs it", busy=True)


def test_a_worker_that_was_restarted_under_its_name_does_not_run_what_it_ran_before(
    desk: StockDesk, movable_clock: MovableClock
) -> None:
    alive(desk)
    old = start(desk)
    movable_clock.forward(0.01)
    alive(desk)  # a new process: it started after the attempt

    new = start(desk, old.task_id)

    assert (new.number, desk.row(old.task_id).error_type) == (2, "WorkerLost")
    assert desk.end(old) is False


def test_a_worker_that_signed_off_runs_nothing(desk: StockDesk) -> None:
    steward = alive(desk)
    old = start(desk)
    steward.sign_off()

    assert start(desk, old.task_id, worker="worker-2").number == 2


def test_an_attempt_that_is_over_for_certain_is_taken_over_from_a_living_worker(desk: StockDesk) -> None:
    alive(desk)
    old = start(desk)

    new = start(desk, old.task_id, headers={LOST_ATTEMPT_HEADER: 1})

    assert (new.number, desk.row(old.task_id).error_type) == (2, "WorkerLost")
    again = desk.begin(old.task_id, worker="worker-1", headers={LOST_ATTEMPT_HEADER: 1})
    assert again == Skip("worker-1 runs it", busy=True), "of the second attempt nobody said so"


def test_of_many_who_take_over_at_once_one_does_and_one_attempt_is_counted(desk: StockDesk) -> None:
    heirs = "abcdef"
    for heir in heirs:
        alive(desk, heir)
    for _ in range(10):
        id, together = start(desk, worker="dead").task_id, Barrier(len(heirs))

        def begin(worker: str, id: str = id, together: Barrier = together) -> Attempt | Skip:
            together.wait(10)
            return desk.begin(id, worker=worker)

        with ThreadPoolExecutor(len(heirs)) as pool:
            answers = list(pool.map(begin, heirs))

        assert [answer.number for answer in answers if isinstance(answer, Attempt)] == [2]
        assert [answer.busy for answer in answers if isinstance(answer, Skip)] == [True] * 5
        assert desk.outcomes(id) == [(1, "lost"), (2, None)]


# --- from outside -------------------------------------------------------------------------------------------


def test_a_waiting_task_that_was_revoked_is_cancelled_and_one_that_came_too_late_is_expired(desk: StockDesk) -> None:
    revoked, late = desk.chore(), desk.chore()
    for id, how in ((revoked, "revoked"), (late, "expired")):
        desk.attempts.finish_for(id, "maintenance", None, spec=None, how=how, worker="worker-1")

    assert [desk.state(id) for id in (revoked, late)] == [TaskState.CANCELLED, TaskState.EXPIRED]
    assert desk.begin(revoked) == Skip("it is cancelled")


def test_a_task_whose_process_died_before_it_began_waits_on(desk: StockDesk) -> None:
    id = desk.chore()
    desk.attempts.finish_for(id, "maintenance", Raised(WorkerLost("worker-1")), spec=None, how="lost", worker="w")

    assert desk.state(id) == TaskState.PENDING
    assert desk.end(start(desk, id))


def test_the_row_of_another_worker_is_left_alone(desk: StockDesk) -> None:
    attempt = start(desk, worker="worker-2")

    desk.attempts.finish_for(attempt.task_id, "maintenance", None, spec=None, how="killed", worker="worker-1")

    assert desk.end(attempt)


def test_a_task_is_found_by_its_row_alone(desk: StockDesk) -> None:
    """No journal: what happened is recorded when it happens."""
    attempt = start(desk)
    with desk.database.reading() as session:
        run = task_runs.find(session, attempt.task_id)
    assert run is not None
    assert run.state == TaskState.PROCESSING
    assert run.started_at is not None
    assert abs((clock.now() - run.started_at).total_seconds()) < 30


def begun_by_processes(desk: StockDesk, config: Settings, ids: list[str], *, processes: int) -> dict[str, list[str]]:
    """Let several processes begin all ids at the same moment; worker → what it got."""
    names = [f"worker-{number}" for number in range(processes)]
    started = {
        worker: subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.claiming", config.storage.url, worker, *ids],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in names
    }
    try:
        for process in started.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for worker in names:
            alive(desk, worker)
        for process in started.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return {worker: json.loads(process.communicate(timeout=60)[0]) for worker, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.communicate()
