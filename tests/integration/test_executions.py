"""Outcomes: what becomes of a task, and who may say so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from app.core import catalog, clock
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
from app.services.executions import (
    ERROR_LIMIT,
    TRACEBACK_LIMIT,
    Completed,
    Outcome,
    Raised,
    Stopped,
)
from laneway import State as Place
from tests.fixtures.platform import Platform


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
    id, states = platform.chore(), list[State]()
    now = RetryPolicy(max_retries=3, delay=0, delay_max=0)
    for _ in range(4):
        assert platform.work("maintenance", Raised(OSError("away")), policy=now) == id
        states.append(platform.state(id))

    assert states == [State.SCHEDULED] * 3 + [State.DEAD_LETTER]
    assert platform.places("maintenance") == {}
    row = platform.row(id)
    assert (row.attempts, row.error, row.finished_at is not None) == (4, "away", True)


def test_a_retry_is_sent_with_the_policys_delay(platform: Platform) -> None:
    id, before = platform.chore(), clock.now()
    platform.work("maintenance", Raised(QueueFull("crm", 5)))

    due = platform.row(id).due_at
    assert due is not None
    assert 9.9 < (due - before).total_seconds() < 15, "QueueFull asks for ten seconds"
    (message,) = platform.messages("maintenance", Place.SCHEDULED)
    assert message.stored.message.task_id == id
    assert message.at is not None
    assert abs(message.at / 1000 - due.timestamp()) < 1


@pytest.mark.parametrize("outcome", [Completed({}), Stopped(), Raised(ValueError("wrong"))])
def test_nothing_is_sent_for_a_task_that_is_over(platform: Platform, outcome: Outcome) -> None:
    platform.chore()
    platform.work("maintenance", outcome)

    assert platform.places("maintenance") == {}


def test_a_retry_goes_ahead_without_a_further_message_if_the_caller_has_one(platform: Platform) -> None:
    run = platform.start(platform.chore())

    state = platform.executions.settle(run, Raised(OSError("away")), policy=RetryPolicy(3, 0, 0), send=False)

    assert state is State.SCHEDULED
    assert platform.sent("maintenance") == [run.id]


def test_success_after_a_failure_clears_the_error(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance", Raised(caught(OSError("away"))), policy=RetryPolicy(3, 0, 0))
    assert platform.row(id).error == "away"

    platform.work("maintenance")

    row = platform.row(id)
    assert (row.error, row.error_type, row.traceback, row.attempts) == (None, None, None, 2)


# --- fencing ------------------------------------------------------------------------------------------------


def test_an_attempt_that_was_taken_over_changes_nothing(platform: Platform) -> None:
    old = platform.start(platform.chore(), worker="stalled")
    new = platform.start(old.id, worker="fresh")
    before = vars_of(platform.row(old.id))

    assert platform.end(old, Completed({"from": "the old attempt"})) is None
    assert platform.end(old, Raised(ValueError("old"))) is None
    assert platform.end(old, Raised(OSError("old"))) is None
    assert platform.executions.progress(old, percent=99, message="old") is None
    assert platform.executions.asked_to_stop([old]) == {}
    assert platform.executions.take_over(old) is None
    assert vars_of(platform.row(old.id)) == before
    assert platform.sent("maintenance") == [old.id], "nothing was sent in its name either"
    assert platform.end(new, Completed({"from": "the new attempt"})) is State.COMPLETED
    assert platform.row(old.id).result == {"from": "the new attempt"}


def test_an_attempt_from_before_a_retry_by_hand_changes_nothing(platform: Platform) -> None:
    """Reopening counts attempts from one again: the number alone must not let the old one in."""
    id = platform.tasks.submit(catalog.HEALTH_SWEEP, {}).task_id
    old = platform.start(id, worker="stalled")
    assert platform.refusal(id, worker="fresh") == "it is dead_letter"
    platform.tasks.retry(id)
    new = platform.start(id, worker="fresh")
    assert (old.attempts, new.attempts) == (1, 1)

    assert platform.executions.asked_to_stop([old]) == {}
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


# --- progress, cancel ---------------------------------------------------------------------------------------


def test_progress_is_stored_and_says_whether_to_stop(platform: Platform) -> None:
    run = platform.start(platform.chore())

    assert platform.executions.progress(run, percent=30, message="reading") is False
    platform.tasks.cancel(run.id)
    assert platform.executions.progress(run, percent=60, message="writing") is True
    assert (platform.row(run.id).progress, platform.row(run.id).progress_message) == (60, "writing")


def test_who_is_asked_to_stop_is_told_to_those_who_own_their_task(platform: Platform) -> None:
    mine, stopping, over = (platform.start(platform.chore()) for _ in range(3))
    platform.tasks.cancel(stopping.id)
    platform.end(over)

    answers = platform.executions.asked_to_stop([mine, stopping, over])

    assert answers == {(mine.id, mine.started_at): False, (stopping.id, stopping.started_at): True}


def test_a_failure_before_the_stop_was_noticed_is_not_tried_again(platform: Platform) -> None:
    run = platform.start(platform.chore())
    platform.tasks.cancel(run.id)

    assert platform.end(run, Raised(OSError("gone"))) is State.CANCELLED


def caught(error: Exception) -> Exception:
    """The same error with a traceback."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        return raised


def vars_of(row: TaskRun) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
