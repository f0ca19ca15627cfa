"""What holds of attempts wherever they are kept: with the delivery engine, and on rows beneath another broker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from laneway.engine import Kind
from laneway.platform.db.session import Database
from laneway.platform.errors import InvalidPayload, PermanentError, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Skip, Snoozed, Stopped
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from tests.fixtures.attempts import QUEUE, EngineDesk, StockDesk, stock_desk
from tests.fixtures.platform import Environment, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

AWAY = Raised(OSError("away"))


@pytest.fixture(params=["engine", "rows"])
def desk(
    request: pytest.FixtureRequest,
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
) -> Iterator[EngineDesk | StockDesk]:
    """Attempts on the engine, and on rows; on SQLite and on PostgreSQL."""
    if request.param == "engine":
        platform: Platform = request.getfixturevalue("platform")
        yield EngineDesk(platform)
        return
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield stock_desk(config, app, platform_database)


def start(desk: EngineDesk | StockDesk, id: str | None = None, *, worker: str = "worker-1") -> Attempt:
    """Begin an attempt at a task, or at a new one."""
    begun = desk.begin(id or desk.chore(), worker=worker)
    assert isinstance(begun, Attempt), begun
    return begun


def test_an_attempt_that_began_is_processing_at_its_worker(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk, worker="worker-7")

    row = desk.row(attempt.task_id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert (attempt.number, attempt.name, attempt.queue) == (1, "cleanup_old_data_task", QUEUE)
    assert row.started_at is not None
    assert desk.outcomes(attempt.task_id) == [(1, None)]


@pytest.mark.parametrize(
    ("outcome", "state", "told"),
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
def test_each_outcome_is_kept(desk: EngineDesk | StockDesk, outcome: Outcome, state: TaskState, told: str) -> None:
    attempt = start(desk)

    assert desk.end(attempt, outcome, schedule=(60.0,))

    row = desk.row(attempt.task_id)
    assert row.state == state
    assert row.result == (outcome.result if isinstance(outcome, Completed) else None)
    assert (row.finished_at is None) is (state is TaskState.SCHEDULED)
    assert (row.due_at is not None) is (state is TaskState.SCHEDULED)
    assert row.error == (str(outcome.error) if isinstance(outcome, Raised) else getattr(outcome, "reason", None))
    assert desk.outcomes(attempt.task_id) == [(1, told)]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600"])
def test_a_result_and_an_error_may_hold_any_text(desk: EngineDesk | StockDesk, text: str) -> None:
    done, failed = start(desk), start(desk)
    desk.end(done, Completed({"text": text}))
    desk.end(failed, Raised(ValueError(f"no: {text}")))

    assert desk.row(done.task_id).result == {"text": text}
    assert (desk.row(failed.task_id).error or "").startswith("no: ")


def test_retries_are_counted_and_end_as_a_dead_letter(desk: EngineDesk | StockDesk) -> None:
    id, states = desk.chore(), list[TaskState]()
    for number in range(1, 5):
        attempt = start(desk, id)
        assert attempt.number == number
        desk.end(attempt, AWAY)
        states.append(desk.state(id))

    assert states == [TaskState.SCHEDULED] * 3 + [TaskState.DEAD_LETTER]
    row = desk.row(id)
    assert (row.attempts, row.error, row.finished_at is not None) == (4, "away", True)
    assert desk.outcomes(id) == [(1, "retry"), (2, "retry"), (3, "retry"), (4, "dead_letter")]


def test_a_snooze_does_not_count(desk: EngineDesk | StockDesk) -> None:
    id = desk.chore()
    for _ in range(5):
        desk.end(start(desk, id), Snoozed(0))
    attempt = start(desk, id)
    assert attempt.number == 1
    desk.end(attempt)

    assert (desk.state(id), desk.row(id).attempts) == (TaskState.COMPLETED, 1)
    assert desk.outcomes(id) == [*((number, "snoozed") for number in range(1, 6)), (6, "completed")]


def test_the_task_of_a_dead_worker_is_taken_over_and_its_attempt_counted(desk: EngineDesk | StockDesk) -> None:
    old = start(desk, worker="dead")
    desk.die(old)

    new = start(desk, old.task_id, worker="heir")

    assert new.number == 2
    row = desk.row(old.task_id)
    assert (row.state, row.worker, row.error_type, "dead" in (row.error or "")) == (
        "processing",
        "heir",
        "WorkerLost",
        True,
    )
    assert desk.end(old) is False
    assert desk.end(new)
    assert desk.outcomes(old.task_id) == [(1, "lost"), (2, "completed")]


def test_an_attempt_that_was_taken_over_changes_nothing(desk: EngineDesk | StockDesk) -> None:
    old = start(desk, worker="stalled")
    desk.die(old)
    new = start(desk, old.task_id, worker="fresh")
    before = vars_of(desk.row(old.task_id))

    for outcome in (Completed({"from": "the old attempt"}), Raised(ValueError("old")), AWAY, Snoozed(9), Stopped()):
        assert desk.end(old, outcome) is False
    assert desk.attempts.report(old, Kind.PROGRESS, {"percent": 99, "message": "old"}) is None
    assert desk.attempts.check_cancelled([old, new]) == [None, False]
    assert vars_of(desk.row(old.task_id)) == before
    assert desk.end(new, Completed({"from": "the new attempt"}))
    assert desk.row(old.task_id).result == {"from": "the new attempt"}


def test_an_attempt_from_before_a_retry_by_hand_changes_nothing(desk: EngineDesk | StockDesk) -> None:
    """Its number is the same, and so is its worker."""
    id = desk.chore()
    old = start(desk, id)
    desk.die(old)
    second = start(desk, id)
    desk.end(second, Raised(ValueError("wrong")))
    desk.tasks.retry(id)
    new = start(desk, id)
    assert (old.number, new.number, old.worker) == (1, 1, new.worker)

    assert desk.attempts.check_cancelled([old, second, new]) == [None, None, False]
    assert desk.attempts.report(old, Kind.PROGRESS, {"percent": 99}) is None
    assert desk.end(old, Completed({"from": "the old attempt"})) is False
    assert desk.state(id) == TaskState.PROCESSING
    assert desk.end(new)
    assert desk.outcomes(id) == [(1, "lost"), (2, "failed"), (3, "completed")]


def test_what_an_attempt_came_to_first_stands(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)
    result = desk.attempts.policy.decide(attempt, Completed({"n": 1}))
    assert desk.attempts.finish(attempt, result)

    desk.attempts.finish(attempt, desk.attempts.policy.decide(attempt, Completed({"n": 2})))
    desk.end(attempt, Raised(ValueError("late")))

    assert (desk.state(attempt.task_id), desk.row(attempt.task_id).result) == (TaskState.COMPLETED, {"n": 1})
    assert desk.story(attempt.task_id).count("end") == 1


def test_of_two_who_conclude_an_attempt_at_once_one_does(desk: EngineDesk | StockDesk) -> None:
    """The task itself and the worker's main process, which thinks that its child died."""
    for _ in range(10):
        attempt, together = start(desk), Barrier(2)

        def conclude(outcome: Outcome, attempt: Attempt = attempt, together: Barrier = together) -> bool:
            result = desk.attempts.policy.decide(attempt, outcome)
            together.wait(10)
            return desk.attempts.finish(attempt, result)

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(conclude, [Completed({}), Stopped()]))

        assert any(answers)
        state = desk.state(attempt.task_id)
        assert desk.outcomes(attempt.task_id) == [(1, state.value)]
        assert desk.story(attempt.task_id).count("end") == 1


def test_a_task_that_kills_its_workers_ends_as_a_dead_letter(desk: EngineDesk | StockDesk) -> None:
    id, tries = desk.chore(), 4
    for number in range(1, tries + 1):
        attempt = start(desk, id, worker=f"victim-{number}")
        assert attempt.number == number
        desk.die(attempt)

    assert desk.begin(id, worker="survivor") == Skip("it lost its worker too often")

    row = desk.row(id)
    assert (row.state, row.error_type) == ("dead_letter", "WorkerLost")
    assert row.finished_at is not None
    assert [told for _, told in desk.outcomes(id)][:tries] == ["lost"] * tries


def test_the_cancelled_task_of_a_dead_worker_is_cancelled_and_not_run_again(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk, worker="dead")
    desk.tasks.cancel(attempt.task_id)
    desk.die(attempt)

    if isinstance(desk, EngineDesk):
        assert desk.platform.fetch(QUEUE) is None, "it is not even delivered"
    else:
        assert desk.begin(attempt.task_id, worker="worker-2") == Skip("it was cancelled")

    assert desk.state(attempt.task_id) == TaskState.CANCELLED
    assert desk.outcomes(attempt.task_id) == [(1, "lost")]


# --- progress, cancel ---------------------------------------------------------------------------------------


def test_progress_is_kept_and_says_whether_to_stop(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)

    assert desk.attempts.report(attempt, Kind.PROGRESS, {"percent": 30, "message": "reading"}) is False
    desk.tasks.cancel(attempt.task_id)
    assert desk.attempts.report(attempt, Kind.PROGRESS, {"percent": 60, "message": "writing"}) is True

    row = desk.row(attempt.task_id)
    assert (row.progress, row.progress_message, row.cancel_requested) == (60, "writing", True)


def test_log_lines_are_part_of_the_story(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)
    desk.attempts.report(attempt, Kind.LOG, {"event": "a line"})
    desk.end(attempt)

    assert desk.story(attempt.task_id)[-3:] == ["begin", "log", "end"]


def test_who_is_asked_to_stop_is_told_to_each_by_itself(desk: EngineDesk | StockDesk) -> None:
    mine, stopping, over = (start(desk) for _ in range(3))
    desk.tasks.cancel(stopping.task_id)
    desk.end(over)

    assert desk.attempts.check_cancelled([mine, stopping, over]) == [False, True, None]
    assert desk.attempts.check_cancelled([]) == []


def test_a_failure_of_what_was_cancelled_is_not_tried_again(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)
    desk.tasks.cancel(attempt.task_id)
    attempt.cancel_requested = True  # as the heart notes it

    desk.end(attempt, AWAY)

    assert desk.state(attempt.task_id) == TaskState.CANCELLED


# --- from outside -------------------------------------------------------------------------------------------


def lease_of(attempt: Attempt) -> str | None:
    return str(attempt.lease) if attempt.lease else None


def test_a_lost_process_is_concluded_by_its_worker(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)

    desk.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        Raised(WorkerLost("worker-1")),
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
        lease=lease_of(attempt),
    )

    row = desk.row(attempt.task_id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")
    assert desk.outcomes(attempt.task_id) == [(1, "retry")]


@pytest.mark.parametrize("how", ["killed", "revoked"])
def test_a_task_that_was_killed_from_outside_is_cancelled(desk: EngineDesk | StockDesk, how: str) -> None:
    attempt = start(desk)

    desk.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        None,
        spec=registry["cleanup_old_data_task"],
        how=how,
        worker="worker-1",
        lease=lease_of(attempt),
    )

    assert desk.state(attempt.task_id) == TaskState.CANCELLED
    assert desk.outcomes(attempt.task_id) == [(1, "cancelled")]


def test_a_lost_process_of_a_cancelled_task_is_a_cancelled_task(desk: EngineDesk | StockDesk) -> None:
    attempt = start(desk)
    desk.tasks.cancel(attempt.task_id)

    desk.attempts.finish_for(
        attempt.task_id,
        QUEUE,
        Raised(WorkerLost("worker-1")),
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
    )

    assert desk.state(attempt.task_id) == TaskState.CANCELLED


@pytest.mark.parametrize("case", ["taken over", "finished", "unknown"])
@pytest.mark.parametrize("outcome", [Raised(WorkerLost("worker-1")), None])
def test_a_lost_process_of_what_is_somebody_elses_by_now_changes_nothing(
    desk: EngineDesk | StockDesk, case: str, outcome: Raised | None
) -> None:
    old = start(desk)
    if case == "taken over":
        desk.die(old)
        start(desk, old.task_id, worker="worker-2")
    elif case == "finished":
        desk.end(old)
    before = vars_of(desk.row(old.task_id))

    desk.attempts.finish_for(
        "nobody" if case == "unknown" else old.task_id,
        QUEUE,
        outcome,
        spec=registry["cleanup_old_data_task"],
        how="lost",
        worker="worker-1",
        lease=lease_of(old),
    )

    assert vars_of(desk.row(old.task_id)) == before


def vars_of(row: object) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
