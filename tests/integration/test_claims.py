"""Claims: who may run a task now, and who takes over from the dead."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from app.core import clock
from app.core.config import ROOT
from app.db.models import TaskRun
from app.schemas.task import State
from app.services.executions import ALIVE_SHARE, Refused
from tests.fixtures.platform import MovableClock, Platform


def test_a_claimed_task_is_processing_at_its_worker(platform: Platform) -> None:
    before = clock.now()
    run = platform.start(platform.message(), worker="worker-7")

    row = platform.row(run.id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert row.started_at is not None
    assert before <= row.started_at <= clock.now()


def test_a_second_delivery_of_a_finished_task_is_refused(platform: Platform) -> None:
    id = platform.message()
    platform.end(platform.start(id))

    assert platform.executions.claim(id, worker="worker-2") == Refused("it is completed")


def test_a_message_without_a_ledger_row_is_refused(platform: Platform) -> None:
    assert platform.executions.claim("nobody", worker="worker-1") == Refused("it is not in the ledger")


def test_of_many_threads_that_claim_one_task_one_wins(platform: Platform) -> None:
    for worker in "abcdef":
        platform.alive(worker)
    for _ in range(10):
        id, together = platform.chore(), Barrier(6)

        def claim(worker: str, id: str = id, together: Barrier = together) -> TaskRun | Refused:
            together.wait(10)
            return platform.executions.claim(id, worker=worker)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(claim, "abcdef"))

        (won,) = (run for run in answers if isinstance(run, TaskRun))
        assert [answer.busy for answer in answers if isinstance(answer, Refused)] == [True] * 5
        assert (platform.row(id).worker, platform.row(id).attempts) == (won.worker, 1)


def test_of_many_processes_that_claim_the_same_tasks_each_task_has_one_winner(platform: Platform) -> None:
    chores = [platform.chore() for _ in range(30)]

    won = claims_of_processes(platform, chores, processes=2)

    assert sorted(id for ids in won.values() for id in ids) == sorted(chores), "each once"
    assert all(platform.row(id).worker == worker for worker, ids in won.items() for id in ids)


# --- who comes while it runs, or after its worker died ------------------------------------------------------


def test_a_second_delivery_of_what_a_living_worker_runs_is_put_off(platform: Platform) -> None:
    platform.alive("worker-1")
    id = platform.start(platform.message(), worker="worker-1").id

    assert platform.executions.claim(id, worker="worker-2") == Refused("worker-1 runs it", busy=True)
    assert platform.executions.claim(id, worker="worker-1") == Refused("worker-1 runs it", busy=True)
    assert (platform.row(id).attempts, platform.row(id).worker) == (1, "worker-1")


@pytest.mark.parametrize(("silent", "taken"), [(ALIVE_SHARE - 0.05, False), (ALIVE_SHARE + 0.05, True)])
def test_a_worker_lives_while_it_reported_within_a_part_of_the_lease(
    platform: Platform, movable_clock: MovableClock, silent: float, taken: bool
) -> None:
    platform.alive("worker-1")
    id = platform.start(platform.message(), worker="worker-1").id
    movable_clock.forward(silent * platform.settings.tasks.lease_seconds)

    assert isinstance(platform.executions.claim(id, worker="worker-2"), TaskRun) is taken


def test_a_worker_that_reports_on_keeps_its_long_task(platform: Platform, movable_clock: MovableClock) -> None:
    steward = platform.alive("worker-1")
    id = platform.start(platform.message(), worker="worker-1").id
    movable_clock.forward(3600)
    steward.report()

    assert platform.refusal(id, worker="worker-2") == "worker-1 runs it"


def test_the_task_of_a_dead_worker_is_taken_over_and_its_attempt_counted(
    platform: Platform, movable_clock: MovableClock
) -> None:
    platform.alive("worker-1")
    old = platform.start(platform.message(), worker="worker-1")
    movable_clock.forward(platform.settings.tasks.lease_seconds)

    new = platform.start(old.id, worker="worker-2")

    assert (new.attempts, new.worker, new.state) == (2, "worker-2", "processing")
    assert (new.error_type, "worker-1" in (new.error or "")) == ("WorkerLost", True)
    assert platform.end(old) is None
    assert platform.end(new) is State.COMPLETED
    assert platform.sent() == [old.id], "taken over by the delivery that came: no further message was sent"


def test_a_worker_that_was_restarted_under_its_name_does_not_run_what_it_ran_before(platform: Platform) -> None:
    platform.alive("worker-1")
    old = platform.start(platform.message(), worker="worker-1")
    platform.alive("worker-1")  # a new process: it started after the attempt

    new = platform.start(old.id, worker="worker-1")

    assert (new.attempts, new.error_type) == (2, "WorkerLost")


def test_a_worker_that_signed_off_runs_nothing(platform: Platform) -> None:
    steward = platform.alive("worker-1")
    old = platform.start(platform.message(), worker="worker-1")
    steward.sign_off()

    assert platform.start(old.id, worker="worker-2").attempts == 2


def test_an_attempt_that_is_over_for_certain_is_taken_over_from_a_living_worker(platform: Platform) -> None:
    platform.alive("worker-1")
    old = platform.start(platform.message(), worker="worker-1")

    new = platform.executions.claim(old.id, worker="worker-1", lost_attempt=1)

    assert isinstance(new, TaskRun)
    assert (new.attempts, new.error_type) == (2, "WorkerLost")
    again = platform.executions.claim(old.id, worker="worker-1", lost_attempt=1)
    assert again == Refused("worker-1 runs it", busy=True), "of the second attempt nobody said so"


def test_a_task_that_kills_its_workers_ends_as_a_dead_letter(platform: Platform) -> None:
    id = platform.message()
    tries = platform.settings.tasks.max_retries + 1
    assert [platform.start(id, worker=f"victim-{number}").attempts for number in range(tries)] == [1, 2, 3, 4]

    assert platform.refusal(id, worker="survivor") == "it is dead_letter"

    row = platform.row(id)
    assert (row.state, row.error_type, row.attempts) == ("dead_letter", "WorkerLost", tries)
    assert "victim-3" in (row.error or "")
    assert row.finished_at is not None


def test_the_cancelled_task_of_a_dead_worker_is_cancelled_and_not_run_again(platform: Platform) -> None:
    id = platform.start(platform.message(), worker="dead").id
    platform.tasks.cancel(id)

    assert platform.refusal(id, worker="worker-2") == "it is cancelled"
    assert platform.state(id) == State.CANCELLED


def test_of_many_who_take_over_at_once_one_does_and_one_attempt_is_counted(platform: Platform) -> None:
    heirs = "abcdef"
    for heir in heirs:
        platform.alive(heir)
    for _ in range(10):
        id, together = platform.start(platform.chore(), worker="dead").id, Barrier(len(heirs))

        def claim(worker: str, id: str = id, together: Barrier = together) -> TaskRun | Refused:
            together.wait(10)
            return platform.executions.claim(id, worker=worker)

        with ThreadPoolExecutor(len(heirs)) as pool:
            answers = list(pool.map(claim, heirs))

        assert [run.attempts for run in answers if isinstance(run, TaskRun)] == [2]
        assert [answer.busy for answer in answers if isinstance(answer, Refused)] == [True] * 5
        assert platform.row(id).attempts == 2


def claims_of_processes(platform: Platform, ids: list[str], *, processes: int) -> dict[str, list[str]]:
    """Let several processes claim all ids at the same moment; worker → what it got."""
    url, names = platform.settings.storage.url, [f"worker-{number}" for number in range(processes)]
    started = {
        worker: subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.claiming", url, worker, *ids],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for worker in names
    }  # fmt: skip
    try:
        for process in started.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for worker in names:
            platform.alive(worker)
        for process in started.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return {worker: json.loads(process.communicate(timeout=60)[0]) for worker, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.communicate()
