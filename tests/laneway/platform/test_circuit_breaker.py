"""One caller at a time waits for a broker that does not answer; the others fail at once."""

from __future__ import annotations

import pytest

from laneway.platform import circuit_breaker as module
from laneway.platform.circuit_breaker import PAUSE, PROBE_TIMEOUT, SLOW, CircuitBreaker
from laneway.platform.errors import BrokerUnavailable, QueueFull


class Time:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "monotonic", time)
    return time


def call(breaker: CircuitBreaker, time: Time, *, seconds: float = 0.0, error: BaseException | None = None) -> bool:
    """Call the broker, which takes this long and then raises this error; False when no call was made."""
    called = False
    try:
        with breaker.guarded():
            called = True
            time.now += seconds
            if error is not None:
                raise error
    except (BrokerUnavailable, QueueFull):
        pass
    return called


def test_after_a_timeout_no_call_is_made_for_a_while(time: Time) -> None:
    breaker = CircuitBreaker()
    assert call(breaker, time, seconds=SLOW, error=BrokerUnavailable("timed out"))

    assert not call(breaker, time)
    time.now += PAUSE
    assert call(breaker, time)
    assert call(breaker, time)


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (0.1, BrokerUnavailable("refused")),
        (SLOW, QueueFull("crm", 1)),
        (SLOW, None),
    ],
    ids=["a refused connection", "a refusal that took long", "a slow answer"],
)
def test_a_broker_that_answers_is_called_again(time: Time, seconds: float, error: Exception | None) -> None:
    breaker = CircuitBreaker()

    assert call(breaker, time, seconds=seconds, error=error)
    assert call(breaker, time)


def test_one_caller_tries_again_and_the_others_fail_at_once(time: Time) -> None:
    breaker = CircuitBreaker()
    call(breaker, time, seconds=SLOW, error=BrokerUnavailable("timed out"))
    time.now += PAUSE

    with breaker.guarded():
        time.now += PROBE_TIMEOUT - 1
        assert not call(breaker, time)
    assert call(breaker, time)


def test_an_interrupted_call_does_not_keep_the_circuit_open(time: Time) -> None:
    breaker = CircuitBreaker()
    call(breaker, time, seconds=SLOW, error=BrokerUnavailable("timed out"))
    time.now += PAUSE

    with pytest.raises(KeyboardInterrupt):
        call(breaker, time, seconds=SLOW, error=KeyboardInterrupt())

    assert call(breaker, time)
