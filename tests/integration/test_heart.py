"""Tasks that are interrupted where they are when they have to stop, never afterwards."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from threading import Thread

import pytest

from app.core import clock
from app.core.errors import DatabaseUnavailable, TaskCancelled
from app.db.models import TaskRun
from app.db.repositories.task_runs import Attempt
from app.schemas.task import State
from app.services.executions import Executions, Stopped
from app.services.heart import Heart
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

SOON = 5.0
"""Seconds within which a task must have been interrupted."""
BEAT = 0.05
"""Seconds between beats in these tests; the platform's own is at most two seconds."""


def test_the_heart_looks_after_what_runs_and_after_nothing_else(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looks_of(monkeypatch)
    first, second = (platform.start(platform.chore()) for _ in range(2))
    heart = beating(platform)
    with heart.holding(first):
        wait_until(lambda: [first.id] in looks, seconds=SOON)
        with heart.holding(second):
            wait_until(lambda: {first.id, second.id} == set(looks[-1]), seconds=SOON)
    with heart.holding(second):
        wait_until(lambda: looks[-1] == [second.id], seconds=SOON)

    assert platform.end(first) is State.COMPLETED


def test_the_heart_looks_while_the_task_keeps_its_thread_busy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, run = looks_of(monkeypatch), platform.start(platform.chore())
    with beating(platform).holding(run):
        busy_for(0.5)

    assert looks.count([run.id]) >= 2


@pytest.mark.parametrize(("lease", "every"), [(5.0, 1.0), (30.0, 2.0), (3.0, 0.6)])
def test_the_heart_looks_every_two_seconds_and_with_short_leases_more_often(
    platform: Platform, lease: float, every: float
) -> None:
    assert Heart(platform.executions, lease_seconds=lease)._every == every  # pyright: ignore[reportPrivateUsage]


def test_a_cancelled_task_is_interrupted_in_the_midst_of_its_work(platform: Platform) -> None:
    run = platform.start(platform.chore())
    platform.tasks.cancel(run.id)
    began = time.monotonic()

    with pytest.raises(TaskCancelled), beating(platform).holding(run):
        busy_for(SOON)

    assert time.monotonic() - began < SOON
    assert platform.end(run, Stopped()) is State.CANCELLED


def test_a_task_that_catches_every_exception_is_interrupted_all_the_same(platform: Platform) -> None:
    run = platform.start(platform.chore())
    platform.tasks.cancel(run.id)

    with pytest.raises(TaskCancelled), beating(platform).holding(run):
        try:
            busy_for(SOON)
        except Exception:  # noqa: BLE001
            pytest.fail("TaskCancelled must not be an Exception")


def test_a_task_that_was_taken_over_is_interrupted(platform: Platform) -> None:
    run = platform.start(platform.chore(), worker="stalled")
    new = platform.start(run.id, worker="fresh")

    with pytest.raises(TaskCancelled), beating(platform).holding(run):
        busy_for(SOON)

    assert platform.end(run, Stopped()) is None
    assert platform.end(new) is State.COMPLETED


def test_an_interruption_meets_only_the_thread_of_its_task(platform: Platform) -> None:
    heart, ended = beating(platform), dict[str, str]()
    runs = [platform.start(platform.chore()) for _ in range(4)]
    stop = {runs[1].id, runs[3].id}
    release = threading.Event()

    def work(run: TaskRun) -> None:
        try:
            with heart.holding(run):
                while not release.is_set():
                    busy_for(0.001)
            ended[run.id] = "to its end"
        except TaskCancelled:
            ended[run.id] = "interrupted"

    threads = [Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for id in stop:
        platform.tasks.cancel(id)
    wait_until(lambda: len(ended) == 2, seconds=SOON)
    release.set()
    for thread in threads:
        thread.join(SOON)

    assert ended == {run.id: "interrupted" if run.id in stop else "to its end" for run in runs}


def test_two_attempts_of_one_task_in_one_process_are_told_apart(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker delivered the message anew while the process was stopped, and the process was given that, too."""
    looks, heart = looks_of(monkeypatch), beating(platform)
    old = platform.start(platform.chore())
    new = platform.start(old.id)
    old_ended = threading.Event()

    def stale() -> None:
        try:
            with heart.holding(old):
                busy_for(SOON)
        except TaskCancelled:
            old_ended.set()

    with heart.holding(new):
        thread = Thread(target=stale)
        thread.start()
        wait_until(old_ended.is_set, seconds=SOON)
        thread.join(SOON)
        seen = len(looks)
        wait_until(lambda: looks[seen:].count([new.id]) >= 2, seconds=SOON)

    assert platform.end(new) is State.COMPLETED


@pytest.mark.parametrize("failure", [RuntimeError("something that nobody thought of"), DatabaseUnavailable("away")])
def test_the_heart_beats_on_after_it_could_not_look(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    run, failures = platform.start(platform.chore()), list[int]()
    asked_to_stop = Executions.asked_to_stop

    def failing(self: Executions, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
        if len(failures) < 3:
            failures.append(1)
            raise failure
        return asked_to_stop(self, owned)

    monkeypatch.setattr(Executions, "asked_to_stop", failing)
    platform.tasks.cancel(run.id)

    with pytest.raises(TaskCancelled), beating(platform).holding(run):
        busy_for(6 * SOON)  # an unexpected error is logged with its traceback, which takes its time
    assert len(failures) == 3


def test_a_task_is_not_interrupted_because_the_database_is_away(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, run = looks_of(monkeypatch), platform.start(platform.chore())
    with beating(platform).holding(run):
        with platform.without_database():
            seen = len(looks)
            wait_until(lambda: len(looks) > seen + 2, seconds=SOON)
        busy_for(3 * BEAT)

    assert platform.end(run) is State.COMPLETED


def test_an_error_of_the_task_passes_through(platform: Platform) -> None:
    run = platform.start(platform.chore())

    with pytest.raises(LookupError, match="own"), beating(platform).holding(run):
        raise LookupError("its own")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns every few instructions, so that one stops the other at every possible place."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_cancelling_at_any_moment_never_interrupts_what_comes_after(platform: Platform, hasty_threads: None) -> None:
    """The real ledger, and a cancel that comes before, in, or just after the block."""
    heart, interrupted, late, rounds = beating(platform, every=0.0005), 0, 0, 40
    for _ in range(rounds):
        run = platform.start(platform.chore())
        canceller = Thread(target=platform.tasks.cancel, args=(run.id,))
        canceller.start()
        try:
            try:
                with heart.holding(run):
                    busy_for(random.random() * 0.04)
            except TaskCancelled:
                interrupted += 1
            canceller.join(SOON)
            busy_for(0.003)
        except TaskCancelled:
            late += 1
        platform.end(run, Stopped())

    assert late == 0
    assert interrupted > 0, "the test did not meet what it is about"


def test_an_interruption_at_any_instruction_leaves_the_heart_beating(hasty_threads: None) -> None:
    """Thousands of blocks that end just when they are interrupted; the answers come without a database."""
    executions = StopEverybody()
    heart = Heart(executions, lease_seconds=0.0001)
    interrupted = late = 0
    began = time.monotonic()
    for number in range(20_000):
        run = TaskRun(id=f"t{number}", attempts=1, started_at=clock.now())
        try:
            try:
                with heart.holding(run):
                    spin(random.randrange(2000))
            except TaskCancelled:
                interrupted += 1
            spin(random.randrange(100))
        except TaskCancelled:
            late += 1
        if time.monotonic() - began > 5:
            break

    assert late == 0
    assert interrupted > 50, "the test did not meet what it is about"
    before = executions.asked
    with pytest.raises(TaskCancelled), heart.holding(TaskRun(id="last", attempts=1, started_at=clock.now())):
        busy_for(SOON)
    assert executions.asked > before, "the heart still beats"
    asked = executions.asked
    busy_for(0.05)
    assert executions.asked <= asked + 1, "nothing is left behind that it asks for"


class StopEverybody(Executions):
    """Answers at once that every attempt was asked to stop."""

    def __init__(self) -> None:
        self.asked = 0

    def asked_to_stop(self, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
        self.asked += 1
        return {(run.id, run.started_at): True for run in owned}


def beating(platform: Platform, *, every: float = BEAT) -> Heart:
    return Heart(platform.executions, lease_seconds=every * 5)


def looks_of(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Grows by the ids that the heart asks for, at each of its looks."""
    looks, asked_to_stop = list[list[str]](), Executions.asked_to_stop

    def noted(self: Executions, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
        try:
            return asked_to_stop(self, owned)
        finally:
            looks.append([run.id for run in owned])

    monkeypatch.setattr(Executions, "asked_to_stop", noted)
    return looks


def busy_for(seconds: float) -> None:
    """Compute, as a task does that holds its thread."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        spin(50)


def spin(times: int) -> None:
    for _ in range(times):
        pass
