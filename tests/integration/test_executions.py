"""Claims and outcomes: who may run a task, and who may say what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from app.core import catalog, clock
from app.core.config import ROOT
from app.core.errors import (
    InvalidPayload,
    PermanentError,
    QueueFull,
    TimeLimitExceeded,
    UpstreamError,
    WorkerLost,
)
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.schemas.task import State
from app.services.executions import ERROR_LIMIT, TRACEBACK_LIMIT, Completed, Outcome, Raised, Stopped
from tests.fixtures.platform import MovableClock, Platform


def test_a_claimed_task_is_processing_and_leased_to_its_worker(platform: Platform) -> None:
    before = clock.now()
    run = platform.start(platform.message(), worker="worker-7")

    row = platform.row(run.id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert row.lease_until is not None
    lease = timedelta(seconds=platform.settings.tasks.lease_seconds)
    assert before + lease <= row.lease_until <= clock.now() + lease
    assert row.started_at is not None
    assert row.started_at >= before


def test_a_second_delivery_of_a_running_task_is_refused(platform: Platform) -> None:
    id = platform.message()
    platform.start(id)

    assert platform.refusal(id) == "it is processing"
    assert platform.row(id).attempts == 1


def test_a_second_delivery_of_a_finished_task_is_refused(platform: Platform) -> None:
    id = platform.message()
    platform.end(platform.start(id))

    assert platform.refusal(id) == "it is completed"


def test_a_message_without_a_ledger_row_is_refused(platform: Platform) -> None:
    assert platform.refusal("nobody") == "it is not in the ledger"


def test_of_many_threads_that_claim_one_task_one_wins(platform: Platform) -> None:
    for _ in range(10):
        id, together = platform.chore(), Barrier(6)

        def claim(worker: str, id: str = id, together: Barrier = together) -> TaskRun | None:
            together.wait(10)
            claimed = platform.executions.claim(id, worker=worker)
            return claimed if isinstance(claimed, TaskRun) else None

        with ThreadPoolExecutor(6) as pool:
            won = [run for run in pool.map(claim, "abcdef") if run]

        assert len(won) == 1
        assert platform.row(id).worker == won[0].worker
        assert platform.row(id).attempts == 1


def test_of_many_processes_that_claim_the_same_tasks_each_task_has_one_winner(platform: Platform) -> None:
    chores = [platform.chore() for _ in range(30)]
    keyed = [platform.message("c-1", text=str(number)) for number in range(5)]

    won = claims_of_processes(platform, [*chores, *keyed], processes=2)

    got = sorted(id for ids in won.values() for id in ids)
    assert got == sorted([*chores, keyed[0]]), "each chore once, and of one key only the first"
    assert all(platform.row(id).worker == worker for worker, ids in won.items() for id in ids)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Completed({"reply": "hi"}), State.COMPLETED),
        (Completed(None), State.COMPLETED),
        (Stopped(), State.CANCELLED),
        (Raised(PermanentError("no")), State.FAILED),
        (Raised(InvalidPayload("t", ["field: wrong"])), State.FAILED),
        (Raised(ValueError("wrong")), State.FAILED),
        (Raised(KeyError("missing")), State.FAILED),
        (Raised(UpstreamError("crm", "away")), State.SCHEDULED),
        (Raised(OSError("away")), State.SCHEDULED),
        (Raised(TimeLimitExceeded(300)), State.SCHEDULED),
        (Raised(WorkerLost("w")), State.SCHEDULED),
        (Raised(RuntimeError("odd")), State.SCHEDULED),
    ],
)
def test_each_outcome_has_its_state(platform: Platform, outcome: Outcome, state: State) -> None:
    run = platform.start(platform.chore())

    assert platform.end(run, outcome) is state

    row = platform.row(run.id)
    assert row.state == state
    assert row.lease_until is None
    assert (row.finished_at is None) is (state is State.SCHEDULED)
    assert (row.due_at is not None) is (state is State.SCHEDULED)


def test_a_failure_is_told_with_its_kind_message_and_traceback(platform: Platform) -> None:
    run = platform.start(platform.chore())

    platform.end(run, Raised(caught(OSError("disk on fire"))))

    row = platform.row(run.id)
    assert (row.error_type, row.error) == ("OSError", "disk on fire")
    assert "disk on fire" in (row.traceback or "")


def test_an_invalid_payload_is_told_without_a_traceback(platform: Platform) -> None:
    """A traceback of a validation may show values."""
    run = platform.start(platform.chore())

    platform.end(run, Raised(caught(InvalidPayload("cleanup", ["field: wrong"]))))

    assert platform.row(run.id).traceback is None


def test_errors_of_any_length_and_content_are_stored(platform: Platform) -> None:
    run = platform.start(platform.chore())

    platform.end(run, Raised(caught(OSError("null \x00 byte, " + "long " * 10_000))))

    row = platform.row(run.id)
    assert row.error is not None
    assert row.error.startswith("null  byte, long")
    assert len(row.error) == ERROR_LIMIT
    assert 0 < len(row.traceback or "") <= TRACEBACK_LIMIT


@pytest.mark.parametrize("result", [{"n": float("nan")}, {"when": timedelta(1)}, {"set": {1}}])
def test_a_result_that_is_not_json_is_a_failure_that_says_so(platform: Platform, result: dict[str, Any]) -> None:
    run = platform.start(platform.chore())

    assert platform.end(run, Completed(result)) is State.FAILED
    assert "not JSON" in (platform.row(run.id).error or "")


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600"])
def test_a_result_may_hold_any_text(platform: Platform, text: str) -> None:
    run = platform.start(platform.chore())

    assert platform.end(run, Completed({"text": text})) is State.COMPLETED
    assert platform.row(run.id).result == {"text": text}


def test_retries_are_counted_and_end_as_a_dead_letter(platform: Platform) -> None:
    id, states = platform.chore(), list[State | None]()
    now = RetryPolicy(max_retries=3, delay=0, delay_max=0)
    for _ in range(4):
        states.append(platform.end(platform.start(id), Raised(OSError("away")), policy=now))
        platform.steward().send_due()

    assert states == [State.SCHEDULED] * 3 + [State.DEAD_LETTER]
    row = platform.row(id)
    assert (row.attempts, row.error, row.finished_at is not None) == (4, "away", True)


def test_a_retry_is_due_after_the_policys_delay(platform: Platform) -> None:
    run = platform.start(platform.chore())
    before = clock.now()

    platform.end(run, Raised(QueueFull("crm", 5)))

    due = platform.row(run.id).due_at
    assert due is not None
    assert 9.9 < (due - before).total_seconds() < 15, "QueueFull asks for ten seconds"


def test_success_after_a_failure_clears_the_error(platform: Platform) -> None:
    id = platform.chore()
    platform.end(platform.start(id), Raised(caught(OSError("away"))), policy=RetryPolicy(3, 0, 0))
    platform.steward().send_due()

    platform.end(platform.start(id))

    row = platform.row(id)
    assert (row.error, row.error_type, row.traceback, row.attempts) == (None, None, None, 2)


# --- fencing ------------------------------------------------------------------------------------------------


def test_an_attempt_that_lost_its_lease_changes_nothing(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.chore()
    old = platform.start(id, worker="stalled")
    overrun(platform, movable_clock)
    new = platform.start(id, worker="fresh")
    before = vars_of(platform.row(id))

    assert platform.end(old, Completed({"from": "the old attempt"})) is None
    assert platform.end(old, Raised(ValueError("old"))) is None
    assert platform.executions.progress(old, percent=99, message="old") is None
    assert platform.executions.renew([old]) == {}
    assert vars_of(platform.row(id)) == before
    assert platform.end(new, Completed({"from": "the new attempt"})) is State.COMPLETED
    assert platform.row(id).result == {"from": "the new attempt"}


def test_an_attempt_from_before_a_retry_by_hand_changes_nothing(
    platform: Platform, movable_clock: MovableClock
) -> None:
    """Reopening counts attempts from one again: the number alone must not let the old one in."""
    id = platform.tasks.submit(catalog.HEALTH_SWEEP, {}).task_id
    old = platform.start(id, worker="stalled")
    overrun(platform, movable_clock)
    assert platform.state(id) == State.DEAD_LETTER
    platform.tasks.retry(id)
    new = platform.start(id, worker="fresh")
    assert (old.attempts, new.attempts) == (1, 1)

    assert platform.executions.renew([old]) == {}
    assert platform.executions.progress(old, percent=99, message="old") is None
    assert platform.end(old, Completed({"from": "the old attempt"})) is None
    assert platform.state(id) == State.PROCESSING
    assert platform.end(new) is State.COMPLETED


def test_an_attempt_settles_once(platform: Platform) -> None:
    run = platform.start(platform.chore())
    platform.end(run, Completed({"n": 1}))

    assert platform.end(run, Completed({"n": 2})) is None
    assert platform.row(run.id).result == {"n": 1}


def test_of_two_who_settle_an_attempt_at_once_one_does(platform: Platform) -> None:
    """The task itself and the worker's main process, which thinks that its child died."""
    for _ in range(10):
        run, together = platform.start(platform.chore()), Barrier(2)

        def settle(outcome: Outcome, run: TaskRun = run, together: Barrier = together) -> State | None:
            together.wait(10)
            return platform.end(run, outcome)

        with ThreadPoolExecutor(2) as pool:
            states = list(pool.map(settle, [Completed({}), Stopped()]))

        assert states.count(None) == 1
        assert platform.state(run.id) in states


# --- progress, leases, cancel -------------------------------------------------------------------------------


def test_progress_is_stored_and_says_whether_to_stop(platform: Platform) -> None:
    run = platform.start(platform.chore())

    assert platform.executions.progress(run, percent=30, message="reading") is False
    platform.tasks.cancel(run.id)
    assert platform.executions.progress(run, percent=60, message="writing") is True
    assert (platform.row(run.id).progress, platform.row(run.id).progress_message) == (60, "writing")


def test_leases_are_renewed_for_those_who_own_them(platform: Platform, movable_clock: MovableClock) -> None:
    mine, stopping, lost = (platform.start(platform.chore()) for _ in range(3))
    platform.tasks.cancel(stopping.id)
    platform.end(lost)
    movable_clock.forward(10)

    answers = platform.executions.renew([mine, stopping, lost])

    assert answers == {(mine.id, mine.started_at): False, (stopping.id, stopping.started_at): True}
    until = platform.row(mine.id).lease_until
    assert until is not None
    assert until > clock.now() + timedelta(seconds=platform.settings.tasks.lease_seconds - 1)
    assert platform.row(lost.id).lease_until is None


def test_a_failure_before_the_stop_was_noticed_is_not_tried_again(platform: Platform) -> None:
    run = platform.start(platform.chore())
    platform.tasks.cancel(run.id)

    assert platform.end(run, Raised(OSError("gone"))) is State.CANCELLED


def overrun(platform: Platform, movable_clock: MovableClock) -> None:
    """Let every lease run out, be taken over, and be sent again."""
    movable_clock.forward(platform.settings.tasks.lease_seconds + 1)
    assert platform.steward().take_over() == 1
    platform.steward().send_due()


def caught(error: Exception) -> Exception:
    """The same error with a traceback."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        return raised


def vars_of(row: TaskRun) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


def claims_of_processes(platform: Platform, ids: list[str], *, processes: int) -> dict[str, list[str]]:
    """Let several processes claim all ids at the same moment; worker → what it got."""
    url = platform.settings.storage.url
    started = {
        worker: subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.claiming", url, worker, *ids],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for worker in (f"worker-{number}" for number in range(processes))
    }  # fmt: skip
    try:
        for process in started.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return {worker: json.loads(process.communicate(timeout=60)[0]) for worker, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.communicate()
