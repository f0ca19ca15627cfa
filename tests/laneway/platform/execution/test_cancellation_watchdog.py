"""Tasks that are interrupted where they are when they have to stop, never afterwards."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from threading import Thread

import pytest

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.errors import BrokerUnavailable, TaskCancelled
from laneway.platform.execution.attempts import EngineAttempts
from laneway.platform.execution.cancellation_watchdog import CancellationWatchdog
from laneway.platform.execution.outcomes import Attempt, Stopped
from laneway.platform.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

SOON = 5.0
"""Seconds within which a task must have been interrupted."""
BEAT = 0.05
"""Seconds between beats in these tests; the platform's own is at most one second."""


def test_the_heart_looks_after_what_runs_and_after_nothing_else(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looks_of(monkeypatch)
    first, second = (chore(platform) for _ in range(2))
    heart = beating(platform)
    with heart.watch(first):
        wait_until(lambda: [first.task_id] in looks, seconds=SOON)
        with heart.watch(second):
            wait_until(lambda: {first.task_id, second.task_id} == set(looks[-1]), seconds=SOON)
    with heart.watch(second):
        wait_until(lambda: looks[-1] == [second.task_id], seconds=SOON)

    assert platform.end(first)


def test_the_heart_looks_while_the_task_keeps_its_thread_busy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, run = looks_of(monkeypatch), chore(platform)
    with beating(platform).watch(run):
        busy_for(0.5)

    assert looks.count([run.task_id]) >= 2


@pytest.mark.parametrize(("lease", "every"), [(3.0, 0.6), (5.0, 1.0), (30.0, 1.0)])
def test_the_heart_looks_every_second_and_with_short_leases_more_often(
    services: Services, lease: float, every: float
) -> None:
    services._settings = services.settings.model_copy(
        update={"tasks": services.settings.tasks.model_copy(update={"lease_seconds": lease, "cancel_grace": 7})}
    )
    heart = services.cancellation_watchdog
    assert (heart._every, heart._grace) == (every, 7)  # pyright: ignore[reportPrivateUsage]


def test_a_cancelled_task_has_a_time_of_grace_in_which_it_is_told_and_not_interrupted(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)
    began = told = time.monotonic()

    with pytest.raises(TaskCancelled), beating(platform, grace=0.5).watch(run):
        while not run.cancel_requested:
            busy_for(0.01)
        told = time.monotonic()
        assert not run.interrupted
        busy_for(SOON)

    assert run.interrupted
    assert told - began < 0.4
    assert 0.4 < time.monotonic() - began < SOON


def test_a_task_that_ends_in_its_time_of_grace_is_not_interrupted(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)

    with beating(platform, grace=30).watch(run):
        while not run.cancel_requested:
            busy_for(0.01)
        busy_for(3 * BEAT)
    busy_for(2 * BEAT)

    assert run.cancel_requested
    assert not run.interrupted


def test_a_cancelled_task_is_interrupted_in_the_midst_of_its_work(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)
    began = time.monotonic()

    with pytest.raises(TaskCancelled), beating(platform).watch(run):
        busy_for(SOON)

    assert time.monotonic() - began < SOON
    assert run.interrupted
    assert platform.end(run, Stopped())
    assert platform.state(run.task_id) == TaskState.CANCELLED


def test_a_task_that_catches_every_exception_is_interrupted_all_the_same(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)

    with pytest.raises(TaskCancelled), beating(platform).watch(run):
        try:
            busy_for(SOON)
        except Exception:  # noqa: BLE001
            pytest.fail("TaskCancelled must not be an Exception")


def test_a_task_that_was_taken_over_is_interrupted_at_once(platform: Platform) -> None:
    run = chore(platform)
    new = taken_over(platform, run)

    with pytest.raises(TaskCancelled), beating(platform, grace=SOON * 10).watch(run):
        busy_for(SOON)

    assert not platform.attempts.finish(run, platform.attempts.policy.decide(run, Stopped()))
    assert platform.end(new)
    assert platform.state(new.task_id) == TaskState.COMPLETED


def test_an_interruption_meets_only_the_thread_of_its_task(platform: Platform) -> None:
    heart, ended = beating(platform), dict[str, str]()
    runs = [chore(platform) for _ in range(4)]
    stop = {runs[1].task_id, runs[3].task_id}
    release = threading.Event()

    def work(run: Attempt) -> None:
        try:
            with heart.watch(run):
                while not release.is_set():
                    busy_for(0.001)
            ended[run.task_id] = "to its end"
        except TaskCancelled:
            ended[run.task_id] = "interrupted"

    threads = [Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for id in stop:
        platform.tasks.cancel(id)
    wait_until(lambda: len(ended) == 2, seconds=SOON)
    release.set()
    for thread in threads:
        thread.join(SOON)

    assert ended == {run.task_id: "interrupted" if run.task_id in stop else "to its end" for run in runs}


def test_two_attempts_of_one_task_in_one_process_are_told_apart(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker delivered the message anew while the process was stopped, and the process was given that, too."""
    looks, heart = looks_of(monkeypatch), beating(platform)
    old = chore(platform)
    new = taken_over(platform, old)
    old_ended = threading.Event()

    def stale() -> None:
        try:
            with heart.watch(old):
                busy_for(SOON)
        except TaskCancelled:
            old_ended.set()

    with heart.watch(new):
        thread = Thread(target=stale)
        thread.start()
        wait_until(old_ended.is_set, seconds=SOON)
        thread.join(SOON)
        seen = len(looks)
        wait_until(lambda: looks[seen:].count([new.task_id]) >= 2, seconds=SOON)

    assert platform.end(new)
    assert platform.state(new.task_id) == TaskState.COMPLETED


@pytest.mark.parametrize("failure", [RuntimeError("something that nobody thought of"), BrokerUnavailable("away")])
def test_the_heart_beats_on_after_it_could_not_look(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    run, failures = chore(platform), list[int]()
    check_cancelled = EngineAttempts.check_cancelled

    def failing(self: EngineAttempts, attempts: Sequence[Attempt]) -> list[bool | None]:
        if len(failures) < 3:
            failures.append(1)
            raise failure
        return check_cancelled(self, attempts)

    monkeypatch.setattr(EngineAttempts, "check_cancelled", failing)
    platform.tasks.cancel(run.task_id)

    with pytest.raises(TaskCancelled), beating(platform).watch(run):
        busy_for(6 * SOON)  # to show an unexpected error takes long
    assert len(failures) == 3


@pytest.mark.parametrize("away", ["database", "broker"])
def test_a_task_is_not_interrupted_because_something_is_away(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    looks, run = looks_of(monkeypatch), chore(platform)
    with beating(platform).watch(run):
        if away == "broker":
            platform.valkey.stop()
        try:
            with platform.without_database() if away == "database" else nullcontext():
                seen = len(looks)
                wait_until(lambda: len(looks) > seen + 2, seconds=SOON)
        finally:
            if away == "broker":
                platform.valkey.start()
        busy_for(3 * BEAT)

    if away == "database":
        assert platform.end(run)
        assert platform.state(run.task_id) == TaskState.COMPLETED
    assert not run.interrupted


def test_an_error_of_the_task_passes_through(platform: Platform) -> None:
    run = chore(platform)

    with pytest.raises(LookupError, match="own"), beating(platform).watch(run):
        raise LookupError("its own")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns every few instructions, so that one stops the other at every possible place."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_cancelling_at_any_moment_never_interrupts_what_comes_after(platform: Platform, hasty_threads: None) -> None:
    """The real engine, and a cancel that comes before, in, or just after the block."""
    heart, interrupted, late, rounds = beating(platform, every=0.0005), 0, 0, 40
    for _ in range(rounds):
        run = chore(platform)
        canceller = Thread(target=platform.engine.cancel, args=("maintenance", run.task_id))
        canceller.start()
        try:
            try:
                with heart.watch(run):
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
    heart = CancellationWatchdog(executions, every=0.00002, grace=0)
    interrupted = late = 0
    began = time.monotonic()
    for number in range(20_000):
        run = nobodys(f"t{number}")
        try:
            try:
                with heart.watch(run):
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
    with pytest.raises(TaskCancelled), heart.watch(nobodys("last")):
        busy_for(SOON)
    assert executions.asked > before, "the heart still beats"
    asked = executions.asked
    busy_for(0.05)
    assert executions.asked <= asked + 1, "nothing is left behind that it asks for"


class StopEverybody(EngineAttempts):
    """Answers at once that every attempt was asked to stop."""

    def __init__(self) -> None:
        self.asked = 0

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[bool | None]:
        self.asked += 1
        return [True] * len(attempts)


def nobodys(id: str) -> Attempt:
    """An attempt that no broker knows."""
    return Attempt(
        task_id=id, name="n", queue="q", number=1, max_retries=0, payload={}, worker="w", started_at=clock.now()
    )


def chore(platform: Platform) -> Attempt:
    """A task of the queue `maintenance` that has begun."""
    platform.chore()
    return platform.start("maintenance")


def taken_over(platform: Platform, attempt: Attempt) -> Attempt:
    """Its lease is over, and the next attempt has begun."""
    platform.engine.renew([platform.deliveries[attempt.task_id]], lease_ms=0)
    new = platform.start("maintenance", worker="fresh")
    assert (new.task_id, new.number) == (attempt.task_id, 2)
    return new


def beating(platform: Platform, *, every: float = BEAT, grace: float = 0) -> CancellationWatchdog:
    return CancellationWatchdog(platform.attempts, every=every, grace=grace)


def looks_of(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Grows by the ids that the heart asks for, at each of its looks."""
    looks, check_cancelled = list[list[str]](), EngineAttempts.check_cancelled

    def noted(self: EngineAttempts, attempts: Sequence[Attempt]) -> list[bool | None]:
        try:
            return check_cancelled(self, attempts)
        finally:
            looks.append([run.task_id for run in attempts])

    monkeypatch.setattr(EngineAttempts, "check_cancelled", noted)
    return looks


def busy_for(seconds: float) -> None:
    """Compute, as a task does that holds its thread."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        spin(50)


def spin(times: int) -> None:
    for _ in range(times):
        pass
