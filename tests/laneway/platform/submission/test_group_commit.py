"""Group commit: every call gets its own outcome, whichever thread does the work, and none waits forever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from laneway.platform.submission import group_commit
from laneway.platform.submission.group_commit import GroupCommit
from tests.fixtures.waiting import wait_until

Work = Callable[[Sequence[int]], Sequence[int | Exception]]


class Gate:
    """Work that waits until the gate is open, and remembers its groups."""

    def __init__(self, work: Work) -> None:
        self.groups: list[list[int]] = []
        self.open = threading.Event()
        self.work = work

    def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        assert self.open.wait(20)
        return self.work(items)


def doubled(items: Sequence[int]) -> Sequence[int | Exception]:
    return [2 * item for item in items]


def together(gate: Gate, numbers: Sequence[int], *, size: int = 0) -> list[Future[int]]:
    """Run the first number, let the others arrive during its work, and open the gate. `size`: the bytes of each."""
    group = GroupCommit[int, int](gate)
    with ThreadPoolExecutor(len(numbers)) as pool:
        futures = [pool.submit(group.run, numbers[0], size=size)]
        wait_until(lambda: gate.groups, seconds=10)
        for number in numbers[1:]:
            futures.append(pool.submit(group.run, number, size=size))
            wait_until(lambda: len(group._waiting) == len(futures) - 1, seconds=10)  # pyright: ignore[reportPrivateUsage]
        gate.open.set()
    return futures


def test_calls_during_the_work_are_the_next_group() -> None:
    gate = Gate(doubled)

    futures = together(gate, range(6))

    assert [future.result() for future in futures] == [0, 2, 4, 6, 8, 10]
    assert gate.groups == [[0], [1, 2, 3, 4, 5]]


def test_a_group_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP", 2)
    gate = Gate(doubled)

    futures = together(gate, range(6))

    assert [future.result() for future in futures] == [0, 2, 4, 6, 8, 10]
    assert gate.groups == [[0], [1, 2], [3, 4], [5]]


def test_a_group_has_a_maximum_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP_BYTES", 1_000)
    gate = Gate(doubled)

    futures = together(gate, range(6), size=400)

    assert [future.result() for future in futures] == [0, 2, 4, 6, 8, 10]
    assert gate.groups == [[0], [1, 2], [3, 4], [5]]


def test_an_error_of_one_item_is_raised_in_its_call() -> None:
    gate = Gate(lambda items: [ValueError(str(item)) if item == 2 else item for item in items])

    futures = together(gate, range(4))

    assert [future.result() for future in futures if future is not futures[2]] == [0, 1, 3]
    with pytest.raises(ValueError, match="2"):
        futures[2].result()


def test_an_error_of_the_work_is_raised_in_each_call_of_the_group() -> None:
    def fails(items: Sequence[int]) -> Sequence[int]:
        raise OSError(len(items))

    futures = together(Gate(fails), range(3))

    assert [str(future.exception()) for future in futures] == ["1", "2", "2"]


def test_a_waiter_whose_leader_was_interrupted_runs_its_item_itself() -> None:
    gate = Gate(doubled)
    led: list[str] = []

    def stopped(items: Sequence[int]) -> Sequence[int | Exception]:
        if len(items) > 1:
            led.append(threading.current_thread().name)
            raise KeyboardInterrupt
        return doubled(items)

    gate.work = stopped
    futures = together(gate, range(4))

    results = [future.exception() or future.result() for future in futures]
    assert sorted(type(result).__name__ for result in results) == ["KeyboardInterrupt", "int", "int", "int"]
    assert results[0] == 0 and len(led) == 1
    assert gate.groups[:2] == [[0], [1, 2, 3]]


def test_a_waiter_that_is_never_woken_runs_its_item_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LEADER_TIMEOUT", 0.05)
    group = GroupCommit[int, int](doubled)
    group._busy = True  # pyright: ignore[reportPrivateUsage]  # a leader that is gone

    assert group.run(4) == 8
    assert not group._waiting  # pyright: ignore[reportPrivateUsage]


def test_a_call_from_within_the_work_is_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LEADER_TIMEOUT", 3600)

    def more(items: Sequence[int]) -> Sequence[int]:
        return [item + (group.run(item - 1) if item else 0) for item in items]

    group = GroupCommit[int, int](more)
    assert [group.run(3), group.run(4)] == [6, 10]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_the_work_does_not_block_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LEADER_TIMEOUT", 3600)
    gate = Gate(doubled)
    group = GroupCommit[int, int](gate)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(group.run, 1)
        wait_until(lambda: gate.groups, seconds=10)
        child = os.fork()
        if child == 0:
            gate.open.set()
            os._exit(group.run(21))
        _, status = os.waitpid(child, 0)
        gate.open.set()
        assert future.result() == 2
    assert os.waitstatus_to_exitcode(status) == 42
