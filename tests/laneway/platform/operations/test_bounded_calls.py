"""Calls that are limited in time, and calls that are limited in number."""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic

import pytest

from laneway.platform.operations import bounded_calls
from laneway.platform.operations.bounded_calls import RecentCall, SingleCall
from tests.fixtures.no_threads import no_threads
from tests.fixtures.waiting import wait_until


def succeeds(single: SingleCall[int]) -> bool:
    try:
        return single.result() > 0
    except TimeoutError:
        return False


def test_a_call_that_does_not_return_is_not_repeated_and_its_end_lets_the_next_one_begin() -> None:
    gate, calls = Event(), list[int]()

    def wait() -> int:
        calls.append(len(calls))
        gate.wait(10)
        return calls[-1]

    single = SingleCall(wait, seconds=0.2, name="test")
    began = monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            single.result()

    assert monotonic() - began < 1, "only the first one waits"
    assert calls == [0]
    gate.set()
    wait_until(lambda: succeeds(single), seconds=5)
    assert len(calls) >= 2


def test_a_thread_that_the_system_does_not_give_is_asked_for_again() -> None:
    single = SingleCall(lambda: 7, seconds=5, name="test")
    with no_threads(), pytest.raises(RuntimeError, match="new thread"):
        single.result()

    assert single.result() == 7


def test_an_error_is_raised_to_whoever_asked() -> None:
    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        SingleCall(fail, seconds=5, name="test").result()


def test_a_result_for_everybody_is_made_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made, time = list[int](), [0.0]
    monkeypatch.setattr(bounded_calls, "monotonic", lambda: time[0])

    def make() -> int:
        made.append(len(made))
        return made[-1]

    recent = RecentCall(make)

    assert [recent.result() for _ in range(3)] == [0, 0, 0]
    time[0] = 0.9
    assert recent.result() == 0
    time[0] = 1.0
    assert recent.result() == 1


def test_those_who_ask_at_once_share_one_call() -> None:
    made, results = list[int](), list[int]()

    def make() -> int:
        Event().wait(0.1)
        made.append(0)
        return 7

    recent = RecentCall(make)
    threads = [Thread(target=lambda: results.append(recent.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (made, results) == ([0], [7] * 4)
