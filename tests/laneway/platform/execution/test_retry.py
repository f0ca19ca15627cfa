"""When a failed task is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from laneway.platform.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidPayload,
    PermanentError,
    QueueFull,
    RetryableError,
    TaskCancelled,
    TimeLimitExceeded,
    UpstreamError,
    UpstreamRefused,
    WorkerLost,
)
from laneway.platform.execution.retry import LONGEST_WAIT, RetryPolicy, is_retryable, retry_after

POLICY = RetryPolicy(max_retries=3, delay=60, delay_max=3600)
seconds = st.floats(0, 86_400, allow_nan=False)
draws = st.floats(0, 1, exclude_max=True)


def highest() -> float:
    return 1.0


def delays(policy: RetryPolicy, error: BaseException, *, draw: float = 1.0) -> list[float | None]:
    return [policy.next_delay(error, attempts=attempt, random=lambda: draw) for attempt in range(1, 7)]


def test_delays_double_up_to_the_limit_and_end_after_the_last_retry() -> None:
    assert delays(POLICY, OSError()) == [60, 120, 240, None, None, None]
    assert delays(RetryPolicy(9, 60, 200), OSError()) == [60, 120, 200, 200, 200, 200]


def test_with_no_retries_there_is_no_delay() -> None:
    assert delays(RetryPolicy(0, 60, 3600), OSError()) == [None] * 6


def test_a_permanent_error_is_never_retried() -> None:
    assert delays(POLICY, PermanentError()) == [None] * 6


def test_a_schedule_is_followed_and_its_last_delay_repeated() -> None:
    policy = RetryPolicy(5, 60, 3600, schedule=(5, 300, 1800))

    assert delays(policy, OSError(), draw=0) == [5, 300, 1800, 1800, 1800, None]
    assert delays(policy, OSError(), draw=1)[:3] == pytest.approx([5.5, 330, 1980])


def test_the_wait_that_an_error_asks_for_comes_first() -> None:
    policy = RetryPolicy(2, 60, 3600, schedule=(5, 300))

    assert delays(policy, UpstreamError("crm", "busy", 42.0))[:3] == [42, 42, None]
    assert delays(POLICY, QueueFull("crm", 10))[0] == 10
    assert delays(POLICY, UpstreamError("crm", "busy"), draw=0.5)[0] == 30, "this error asks for no wait"


@given(requested=st.floats(allow_nan=False))
def test_a_retry_after_is_limited_to_between_zero_and_a_day(requested: float) -> None:
    delay = POLICY.next_delay(UpstreamError("crm", "busy", requested), attempts=1, random=highest)

    assert delay is not None
    assert 0 <= delay <= LONGEST_WAIT


@given(attempts=st.integers(1, 10_000), delay=seconds, longest=seconds, draw=draws)
def test_an_exponential_delay_is_between_zero_and_the_limit(
    attempts: int, delay: float, longest: float, draw: float
) -> None:
    policy = RetryPolicy(10_000, delay, longest)

    wait = policy.next_delay(OSError(), attempts=attempts, random=lambda: draw)

    assert wait is not None
    assert 0 <= wait <= longest


@given(steps=st.lists(seconds, min_size=1, max_size=9), attempts=st.integers(1, 30), draw=draws)
def test_a_scheduled_delay_is_lengthened_by_at_most_a_tenth(steps: list[float], attempts: int, draw: float) -> None:
    policy = RetryPolicy(30, 1, 1, schedule=steps)

    wait = policy.next_delay(OSError(), attempts=attempts, random=lambda: draw)

    step = steps[min(attempts, len(steps)) - 1]
    assert wait is not None
    assert step <= wait <= step * 1.1


@given(max_retries=st.integers(0, 100), attempts=st.integers(1, 200))
def test_there_are_exactly_as_many_retries_as_allowed(max_retries: int, attempts: int) -> None:
    delay = RetryPolicy(max_retries, 1, 1).next_delay(OSError(), attempts=attempts, random=highest)

    assert (delay is not None) is (attempts <= max_retries)


@pytest.mark.parametrize(
    "error",
    [
        OSError(),
        ConnectionError(),
        TimeoutError(),
        RuntimeError(),
        MemoryError(),
        RetryableError(),
        UpstreamError("crm", "busy"),
        BrokerUnavailable("away"),
        TimeLimitExceeded(300),
        WorkerLost("w"),
    ],
)
def test_an_error_that_may_pass_is_retryable(error: Exception) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        TypeError(),
        KeyError(),
        IndexError(),
        AttributeError(),
        NotImplementedError(),
        UnicodeDecodeError("utf-8", b"", 0, 1, ""),
        InvalidPayload("t", []),
        UpstreamRefused("crm", "no"),
        Conflict(),
    ],
)
def test_an_error_that_points_to_a_bug_or_says_so_is_not_retryable(error: Exception) -> None:
    assert not is_retryable(error)


def test_a_validation_error_is_not_retryable() -> None:
    class Model(BaseModel):
        number: int

    with pytest.raises(ValidationError) as invalid:
        Model.model_validate({"number": "x"})
    assert not is_retryable(invalid.value)


def test_only_errors_of_the_platform_ask_for_a_wait() -> None:
    assert retry_after(QueueFull("q", 1)) == 10
    assert retry_after(RetryableError()) is None
    assert retry_after(OSError()) is None
    assert retry_after(TaskCancelled()) is None
