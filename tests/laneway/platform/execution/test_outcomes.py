"""What each outcome leads to, and what is stored of results and errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from laneway.platform.db.session import Database
from laneway.platform.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidPayload,
    PermanentError,
    QueueFull,
    ResultTooLarge,
    TimeLimitExceeded,
    UpstreamError,
    UpstreamRefused,
    WorkerLost,
)
from laneway.platform.execution.outcomes import (
    ERROR_LIMIT,
    LONGEST_SNOOZE,
    RESULT_LIMIT,
    TRACEBACK_LIMIT,
    Attempt,
    AttemptResult,
    Completed,
    Outcome,
    OutcomePolicy,
    Raised,
    Snoozed,
    Stopped,
    error_group,
)
from laneway.platform.execution.retry import LONGEST_WAIT
from laneway.platform.settings import TaskSettings
from laneway.schemas.task import TaskState


def policy(draw: float = 0.5, **settings: Any) -> OutcomePolicy:
    """A policy with a retry delay of 10 to 40 seconds, and `draw` instead of random numbers."""
    return OutcomePolicy(
        TaskSettings.model_validate({"TASK_RETRY_DELAY": 10, "TASK_RETRY_DELAY_MAX": 40, **settings}),
        draw=lambda: draw,
    )


def attempt(number: int = 1, *, max_retries: int = 3, cancelled: bool = False) -> Attempt:
    return Attempt(
        task_id="t",
        name="task",
        queue="q",
        number=number,
        max_retries=max_retries,
        payload={},
        worker="w",
        started_at=datetime.now(UTC),
        cancel_requested=cancelled,
    )


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Completed({"reply": "hi"}), TaskState.COMPLETED),
        (Completed(None), TaskState.COMPLETED),
        (Stopped(), TaskState.CANCELLED),
        (Snoozed(3), TaskState.SCHEDULED),
        (Raised(PermanentError("no")), TaskState.FAILED),
        (Raised(UpstreamRefused("crm", "no")), TaskState.FAILED),
        (Raised(InvalidPayload("t", ["field: wrong"])), TaskState.FAILED),
        (Raised(ValueError("wrong")), TaskState.FAILED),
        (Raised(KeyError("missing")), TaskState.FAILED),
        (Raised(TypeError("wrong")), TaskState.FAILED),
        (Raised(NotImplementedError()), TaskState.FAILED),
        (Raised(UpstreamError("crm", "away")), TaskState.SCHEDULED),
        (Raised(OSError("away")), TaskState.SCHEDULED),
        (Raised(TimeLimitExceeded(300)), TaskState.SCHEDULED),
        (Raised(WorkerLost("w")), TaskState.SCHEDULED),
        (Raised(RuntimeError("odd")), TaskState.SCHEDULED),
    ],
)
def test_each_outcome_leads_to_its_state(outcome: Outcome, state: TaskState) -> None:
    assert policy().decide(attempt(), outcome).state is state


@pytest.mark.parametrize(
    ("number", "max_retries", "state"),
    [
        (1, 0, TaskState.DEAD_LETTER),
        (1, 1, TaskState.SCHEDULED),
        (2, 1, TaskState.DEAD_LETTER),
        (3, 3, TaskState.SCHEDULED),
        (4, 3, TaskState.DEAD_LETTER),
        (5, 3, TaskState.DEAD_LETTER),
    ],
)
def test_a_retryable_error_is_retried_until_the_retries_are_used_up(
    number: int, max_retries: int, state: TaskState
) -> None:
    assert policy().decide(attempt(number, max_retries=max_retries), Raised(OSError("away"))).state is state


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), DatabaseBusy("held")])
def test_a_task_that_does_not_get_the_database_runs_again_and_uses_up_no_retry(error: DatabaseUnavailable) -> None:
    result = policy(0.5).decide(attempt(9, max_retries=0), Raised(error), schedule=(1.0,))
    assert (result.state, result.counted, result.delay) == (TaskState.SCHEDULED, False, 17.5)
    assert result.error_type == type(error).__name__


def test_a_statement_that_sqlite_refuses_is_a_fault_of_the_task(sqlite_database: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as raised, sqlite_database.reading() as session:
        session.execute(text("SELECT * FROM nowhere"))
    result = policy().decide(attempt(9, max_retries=0), Raised(raised.value))
    assert result.state is TaskState.DEAD_LETTER


@pytest.mark.parametrize("number", [1, 4])
def test_a_permanent_error_fails_at_once_and_is_no_dead_letter(number: int) -> None:
    assert policy().decide(attempt(number), Raised(ValueError("wrong"))).state is TaskState.FAILED


@pytest.mark.parametrize(("number", "delay"), [(1, 5.0), (2, 10.0), (3, 20.0), (4, 20.0), (40, 20.0)])
def test_the_delay_doubles_up_to_its_limit_and_is_random(number: int, delay: float) -> None:
    assert policy(0.5).decide(attempt(number, max_retries=99), Raised(OSError())).delay == delay


@pytest.mark.parametrize(("number", "delay"), [(1, 1.05), (2, 60 * 1.05), (3, 60 * 1.05)])
def test_a_schedule_replaces_the_exponential_delays(number: int, delay: float) -> None:
    result = policy(0.5).decide(attempt(number), Raised(OSError()), schedule=(1.0, 60.0))
    assert result.delay == pytest.approx(delay)


@pytest.mark.parametrize(("requested", "delay"), [(17.0, 17.0), (-3.0, 0.0), (1e9, LONGEST_WAIT)])
def test_the_wait_that_an_error_asks_for_is_used(requested: float, delay: float) -> None:
    result = policy().decide(attempt(), Raised(UpstreamError("crm", "busy", after=requested)), schedule=(1.0,))
    assert (result.state, result.delay) == (TaskState.SCHEDULED, delay)
    assert policy().decide(attempt(), Raised(QueueFull("crm", 5))).delay == 10


def test_a_retry_counts_and_a_snooze_does_not() -> None:
    retry = policy().decide(attempt(), Raised(OSError("away")))
    snooze = policy().decide(attempt(9), Snoozed(3, "not yet"))

    assert retry.counted
    assert (snooze.counted, snooze.state, snooze.delay, snooze.error) == (False, TaskState.SCHEDULED, 3, "not yet")
    assert snooze.error_group is None


@pytest.mark.parametrize(("requested", "delay"), [(-1.0, 0.0), (math.inf, LONGEST_SNOOZE), (math.nan, 0.0), (0.0, 0.0)])
def test_a_snooze_is_never_negative_and_never_endless(requested: float, delay: float) -> None:
    result = policy().decide(attempt(), Snoozed(requested))
    assert result.delay == delay
    assert AttemptResult.from_json(result.to_json()) == result


# --- cancelled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cooperative", "interrupted", "killed"])
def test_a_stopped_task_is_cancelled_and_its_result_says_how(how: str) -> None:
    result = policy().decide(attempt(cancelled=True), Stopped(how))
    assert (result.state, result.how, result.error) == (TaskState.CANCELLED, how, None)


@pytest.mark.parametrize("outcome", [Raised(OSError("gone")), Raised(ValueError("odd")), Snoozed(5)])
def test_a_cancelled_task_is_never_retried(outcome: Outcome) -> None:
    result = policy().decide(attempt(cancelled=True), outcome)
    assert (result.state, result.delay) == (TaskState.CANCELLED, 0)
    assert result.error == (str(outcome.error) if isinstance(outcome, Raised) else None)


def test_a_task_that_completes_in_spite_of_a_cancel_is_completed() -> None:
    result = policy().decide(attempt(cancelled=True), Completed({"n": 1}))
    assert (result.state, result.result) == (TaskState.COMPLETED, {"n": 1})


# --- results ------------------------------------------------------------------------------------------------


def recursive_dict() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    return itself


def deeply_nested_dict() -> dict[str, Any]:
    result: dict[str, Any] = {}
    for _ in range(100_000):
        result = {"deeper": result}
    return result


@pytest.mark.parametrize(
    "value",
    [{"n": math.nan}, {"n": math.inf}, {"when": timedelta(1)}, {"set": {1}}, {("a",): 1}, recursive_dict(), b"raw"],
)
def test_a_result_that_is_not_json_is_a_failure_that_says_so(value: Any) -> None:
    result = policy().decide(attempt(), Completed(value))
    assert (result.state, result.error_type, result.result) == (TaskState.FAILED, "TypeError", None)
    assert "not JSON" in (result.error or "")


def test_a_result_that_is_nested_too_deeply_is_a_failure_that_says_so() -> None:
    assert "not JSON" in (policy().decide(attempt(), Completed(deeply_nested_dict())).error or "")


@pytest.mark.parametrize(("size", "state"), [(RESULT_LIMIT, TaskState.COMPLETED), (RESULT_LIMIT + 1, TaskState.FAILED)])
def test_a_result_may_have_as_many_characters_as_the_limit(size: int, state: TaskState) -> None:
    value = {"text": "x" * (size - len('{"text": ""}'))}
    assert len(json.dumps(value)) == size

    result = policy().decide(attempt(), Completed(value))

    assert result.state is state
    if state is TaskState.FAILED:
        assert (result.error_type, result.result) == (ResultTooLarge.__name__, None)
        assert str(size) in (result.error or "")


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600", "é"])
def test_a_result_may_contain_any_text(text: str) -> None:
    result = policy().decide(attempt(), Completed({"text": text}))
    assert AttemptResult.from_json(result.to_json()).result == {"text": text}


# --- errors -------------------------------------------------------------------------------------------------


def caught(error: Exception) -> Exception:
    """The error, with a traceback."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        return raised


def test_a_failure_is_stored_with_class_message_and_traceback() -> None:
    result = policy().decide(attempt(), Raised(caught(OSError("disk on fire"))))
    assert (result.error_type, result.error) == ("OSError", "disk on fire")
    assert "disk on fire" in (result.traceback or "")
    assert "raise error" in (result.traceback or "")


def test_an_invalid_payload_is_stored_without_a_traceback() -> None:
    """The traceback of a validation may contain values of the payload."""
    assert policy().decide(attempt(), Raised(caught(InvalidPayload("t", ["field: wrong"])))).traceback is None


def test_an_error_without_a_message_is_stored_by_its_class() -> None:
    assert policy().decide(attempt(), Raised(RuntimeError())).error == "RuntimeError"


class Unprintable(Exception):
    """An error whose `__str__` raises."""

    def __str__(self) -> str:
        raise LookupError


def test_an_error_whose_message_cannot_be_read_has_a_result_too() -> None:
    result = policy().decide(attempt(), Raised(caught(Unprintable())))
    assert (result.state, result.error_type) == (TaskState.SCHEDULED, "Unprintable")
    assert "LookupError" in (result.error or "")


def test_long_errors_are_cut_and_null_bytes_removed() -> None:
    result = policy().decide(attempt(), Raised(caught(OSError("null \x00 byte, " + "long " * 10_000))))
    assert (result.error or "").startswith("null  byte, long")
    assert len(result.error or "") == ERROR_LIMIT
    assert 0 < len(result.traceback or "") <= TRACEBACK_LIMIT
    assert "\x00" not in (result.traceback or "")


# --- groups of errors ---------------------------------------------------------------------------------------


def raised_here(message: str) -> Exception:
    return caught_in(lambda: fail_with(ValueError(message)))


def raised_elsewhere(message: str) -> Exception:
    def other_function() -> None:
        raise ValueError(message)

    return caught_in(other_function)


def fail_with(error: Exception) -> None:
    raise error


def caught_in(work: Callable[[], None]) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError


def group_of(error: Exception) -> str | None:
    return policy().decide(attempt(), Raised(error)).error_group


def test_errors_of_one_class_and_function_are_one_group_whatever_their_message() -> None:
    assert group_of(raised_here("order 1")) == group_of(raised_here("something else")) is not None


def test_errors_of_another_function_or_class_are_another_group() -> None:
    other_function = group_of(raised_elsewhere("order 1"))
    other_class = group_of(caught_in(lambda: fail_with(LookupError("order 1"))))
    assert len({group_of(raised_here("order 1")), other_function, other_class}) == 3


def test_the_group_depends_on_the_innermost_function() -> None:
    """Its callers do not matter."""
    assert group_of(raised_here("x")) == group_of(caught_in(lambda: fail_one_level_deeper("x")))


def fail_one_level_deeper(message: str) -> None:
    fail_with(ValueError(message))


def test_errors_without_a_traceback_are_grouped_by_their_message_without_digits() -> None:
    assert group_of(OSError("order 12 of 7")) == group_of(OSError("order 3 of 44"))
    assert group_of(OSError("order 12")) != group_of(OSError("customer 12"))


def test_a_group_is_the_same_in_every_process() -> None:
    assert error_group("OSError", None, "order 12") == "2d004f7627801375"
    assert error_group("OSError", None, "order 12") == error_group("OSError", None, "order 99")


@pytest.mark.parametrize("message", ["\ud800", "\x00", "", "é" * 10_000])
def test_any_message_has_a_group(message: str) -> None:
    assert len(error_group("OSError", None, message)) == 16


# --- results in the journal ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome", [Completed({"a": [1, None]}), Raised(caught(OSError("away"))), Stopped("killed"), Snoozed(1.5, "later")]
)
def test_a_result_is_the_same_after_the_journal(outcome: Outcome) -> None:
    result = policy().decide(attempt(), outcome)
    assert AttemptResult.from_json(result.to_json()) == result


def test_unknown_fields_of_a_result_are_ignored() -> None:
    assert AttemptResult.from_json('{"state": "failed", "error": "x", "of_the_future": 1}') == AttemptResult(
        TaskState.FAILED, error="x"
    )


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"state": "unheard of"}', '{"state": 3}'])
def test_a_text_that_is_no_result_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        AttemptResult.from_json(text)
