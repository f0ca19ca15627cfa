"""The watchdog interrupts tasks that must stop, wherever they are, and nothing that runs after them."""

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
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Stopped
from laneway.schemas.task import TaskState
from tests.fixtures.budget import budget
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

SOON = 5.0
"""Seconds within which a task must have been interrupted."""
CHECK_EVERY = 0.05
"""Seconds between two checks in these tests. In the platform it is at most one second."""


def test_the_watchdog_checks_running_attempts_and_no_others(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = recorded_checks(monkeypatch)
    first, second = (chore(platform) for _ in range(2))
    watchdog = watchdog_on(platform)
    with watchdog.watch(first):
        wait_until(lambda: [first.task_id] in checks, seconds=SOON)
        with watchdog.watch(second):
            wait_until(lambda: {first.task_id, second.task_id} == set(checks[-1]), seconds=SOON)
    with watchdog.watch(second):
        wait_until(lambda: checks[-1] == [second.task_id], seconds=SOON)

    assert platform.end(first)


def test_the_watchdog_checks_while_the_task_keeps_its_thread_busy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks, run = recorded_checks(monkeypatch), chore(platform)
    with watchdog_on(platform).watch(run):
        busy_for(0.5)

    assert checks.count([run.task_id]) >= 2


@pytest.mark.parametrize(("lease", "every"), [(3.0, 0.6), (5.0, 1.0), (30.0, 1.0)])
def test_the_watchdog_checks_every_second_and_more_often_with_short_leases(
    services: Services, lease: float, every: float
) -> None:
    services._settings = services.settings.model_copy(  # pyright: ignore[reportPrivateUsage]
        update={"tasks": services.settings.tasks.model_copy(update={"lease_seconds": lease, "cancel_grace": 7})}
    )
    watchdog = services.cancellation_watchdog
    assert (watchdog._every, watchdog._grace) == (every, 7)  # pyright: ignore[reportPrivateUsage]


def test_one_of_several_tasks_of_a_thread_is_marked_and_never_interrupted(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = recorded_checks(monkeypatch)
    cancelled, lost, other = (chore(platform) for _ in range(3))
    platform.tasks.cancel(cancelled.task_id)
    assert lost.lease is not None
    platform.engine.release([platform.deliveries[lost.task_id]])
    watchdog = watchdog_on(platform, grace=0.1)
    with (
        watchdog.watch(cancelled, interrupt=False),
        watchdog.watch(lost, interrupt=False),
        watchdog.watch(other, interrupt=False),
    ):
        wait_until(lambda: cancelled.cancel_requested and lost.cancel_requested, seconds=SOON)
        seen = len(checks)
        wait_until(lambda: len(checks) > seen + 4, seconds=SOON)  # the grace period is over
    assert [each.interrupted for each in (cancelled, lost, other)] == [False] * 3
    assert not other.cancel_requested


def test_a_cancelled_task_is_marked_at_once_and_interrupted_after_the_grace_period(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)
    began = marked = time.monotonic()

    with pytest.raises(TaskCancelled), watchdog_on(platform, grace=0.5).watch(run):
        while not run.cancel_requested:
            busy_for(0.01)
        marked = time.monotonic()
        assert not run.interrupted
        busy_for(SOON)

    assert run.interrupted
    assert marked - began < 0.4
    assert 0.4 < time.monotonic() - began < SOON


def test_a_task_that_ends_within_the_grace_period_is_not_interrupted(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)

    with watchdog_on(platform, grace=30).watch(run):
        while not run.cancel_requested:
            busy_for(0.01)
        busy_for(3 * CHECK_EVERY)
    busy_for(2 * CHECK_EVERY)

    assert run.cancel_requested
    assert not run.interrupted


def test_a_cancelled_task_is_interrupted_while_it_computes(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)
    began = time.monotonic()

    with pytest.raises(TaskCancelled), watchdog_on(platform).watch(run):
        busy_for(SOON)

    assert time.monotonic() - began < SOON
    assert run.interrupted
    assert platform.end(run, Stopped())
    assert platform.state(run.task_id) == TaskState.CANCELLED


def test_a_task_that_catches_every_exception_is_interrupted_too(platform: Platform) -> None:
    run = chore(platform)
    platform.tasks.cancel(run.task_id)

    with pytest.raises(TaskCancelled), watchdog_on(platform).watch(run):
        try:
            busy_for(SOON)
        except Exception:  # noqa: BLE001
            pytest.fail("TaskCancelled must not be an Exception")


def test_a_task_that_was_taken_over_is_interrupted_at_once(platform: Platform) -> None:
    run = chore(platform)
    new = taken_over(platform, run)

    with pytest.raises(TaskCancelled), watchdog_on(platform, grace=SOON * 10).watch(run):
        busy_for(SOON)

    assert not platform.attempts.finish(run, platform.attempts.policy.decide(run, Stopped()))
    assert platform.end(new)
    assert platform.state(new.task_id) == TaskState.COMPLETED


def test_an_interruption_hits_only_the_thread_of_its_task(platform: Platform) -> None:
    watchdog, ended = watchdog_on(platform), dict[str, str]()
    runs = [chore(platform) for _ in range(4)]
    stop = {runs[1].task_id, runs[3].task_id}
    release = threading.Event()

    def work(run: Attempt) -> None:
        try:
            with watchdog.watch(run):
                while not release.is_set():
                    time.sleep(0.001)
            ended[run.task_id] = "completed"
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

    assert ended == {run.task_id: "interrupted" if run.task_id in stop else "completed" for run in runs}


def test_two_attempts_of_one_task_in_one_process_are_watched_separately(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message was delivered again while the process stood still, and the same process received it again."""
    checks, watchdog = recorded_checks(monkeypatch), watchdog_on(platform)
    old = chore(platform)
    new = taken_over(platform, old)
    old_ended = threading.Event()

    def stale() -> None:
        try:
            with watchdog.watch(old):
                busy_for(SOON)
        except TaskCancelled:
            old_ended.set()

    with watchdog.watch(new):
        thread = Thread(target=stale)
        thread.start()
        wait_until(old_ended.is_set, seconds=SOON)
        thread.join(SOON)
        seen = len(checks)
        wait_until(lambda: checks[seen:].count([new.task_id]) >= 2, seconds=SOON)

    assert platform.end(new)
    assert platform.state(new.task_id) == TaskState.COMPLETED


@pytest.mark.parametrize("failure", [RuntimeError("unexpected"), BrokerUnavailable("away")])
def test_the_watchdog_continues_after_a_failed_check(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    run, failures = chore(platform), list[int]()
    check_cancelled = EngineAttempts.check_cancelled

    def failing(self: EngineAttempts, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        if len(failures) < 3:
            failures.append(1)
            raise failure
        return check_cancelled(self, attempts)

    monkeypatch.setattr(EngineAttempts, "check_cancelled", failing)
    platform.tasks.cancel(run.task_id)

    with pytest.raises(TaskCancelled), watchdog_on(platform).watch(run):
        busy_for(6 * SOON)  # formatting the log of an unexpected error takes long
    assert len(failures) == 3


@pytest.mark.parametrize("away", ["database", "broker"])
def test_a_task_is_not_interrupted_because_a_server_cannot_be_reached(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    checks, run = recorded_checks(monkeypatch), chore(platform)
    with watchdog_on(platform).watch(run):
        if away == "broker":
            platform.valkey.stop()
        try:
            with platform.without_database() if away == "database" else nullcontext():
                seen = len(checks)
                wait_until(lambda: len(checks) > seen + 2, seconds=SOON)
        finally:
            if away == "broker":
                platform.valkey.start()
        busy_for(3 * CHECK_EVERY)

    if away == "database":
        assert platform.end(run)
        assert platform.state(run.task_id) == TaskState.COMPLETED
    assert not run.interrupted


def test_an_error_of_the_task_is_not_changed(platform: Platform) -> None:
    run = chore(platform)

    with pytest.raises(LookupError, match="own"), watchdog_on(platform).watch(run):
        raise LookupError("its own")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Switch threads every few instructions, so that one stops the other at every possible instruction."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_cancel_at_any_moment_never_interrupts_what_runs_after_the_block(
    platform: Platform, hasty_threads: None
) -> None:
    """On the real engine, with a cancel before, inside, or just after the block."""
    watchdog, interrupted, late, rounds = watchdog_on(platform, every=0.0005), 0, 0, 40
    for _ in range(rounds):
        run = chore(platform)
        canceller = Thread(target=platform.engine.cancel, args=("maintenance", run.task_id))
        canceller.start()
        try:
            try:
                with watchdog.watch(run):
                    busy_for(random.random() * 0.04)
            except TaskCancelled:
                interrupted += 1
            canceller.join(SOON)
            busy_for(0.003)
        except TaskCancelled:
            late += 1
        platform.end(run, Stopped())

    assert late == 0
    assert interrupted > 0, "the test interrupted nothing"


def test_the_watchdog_continues_after_an_interruption_at_any_instruction(hasty_threads: None) -> None:
    """Thousands of blocks that end at the moment of their interruption. No server is involved."""
    attempts = CancelEverything()
    watchdog = CancellationWatchdog(attempts, every=0.00002, grace=0)
    interrupted = late = 0
    began = time.monotonic()
    for number in range(budget(short=5_000, long=50_000)):
        run = unknown_attempt(f"t{number}")
        try:
            try:
                with watchdog.watch(run):
                    spin(random.randrange(2000))
            except TaskCancelled:
                interrupted += 1
            spin(random.randrange(100))
        except TaskCancelled:
            late += 1
        if time.monotonic() - began > 5:
            break

    assert late == 0
    assert interrupted > 50, "the test interrupted nothing"
    before = attempts.checks
    with pytest.raises(TaskCancelled), watchdog.watch(unknown_attempt("last")):
        busy_for(SOON)
    assert attempts.checks > before, "the watchdog still checks"
    checks = attempts.checks
    busy_for(0.05)
    assert attempts.checks <= checks + 1, "no attempt is watched any more"


class CancelEverything(EngineAttempts):
    """Says at once that every task was cancelled."""

    def __init__(self) -> None:
        self.checks = 0

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        self.checks += 1
        return [AttemptSignal.CANCEL] * len(attempts)


def unknown_attempt(id: str) -> Attempt:
    """An attempt that is on no broker."""
    return Attempt(
        task_id=id, name="n", queue="q", number=1, max_retries=0, payload={}, worker="w", started_at=clock.now()
    )


def chore(platform: Platform) -> Attempt:
    """A started attempt of a new task in the queue `maintenance`."""
    platform.chore()
    return platform.start("maintenance")


def taken_over(platform: Platform, attempt: Attempt) -> Attempt:
    """The next attempt of the task, started after the lease of this one ended."""
    platform.engine.renew([platform.deliveries[attempt.task_id]], lease_ms=0)
    new = platform.start("maintenance", worker="fresh")
    assert (new.task_id, new.number) == (attempt.task_id, 2)
    return new


def watchdog_on(platform: Platform, *, every: float = CHECK_EVERY, grace: float = 0) -> CancellationWatchdog:
    return CancellationWatchdog(platform.attempts, every=every, grace=grace)


def recorded_checks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A list that grows with each check, by the ids of the checked tasks."""
    checks, check_cancelled = list[list[str]](), EngineAttempts.check_cancelled

    def recording(self: EngineAttempts, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        try:
            return check_cancelled(self, attempts)
        finally:
            checks.append([run.task_id for run in attempts])

    monkeypatch.setattr(EngineAttempts, "check_cancelled", recording)
    return checks


def busy_for(seconds: float) -> None:
    """Compute, like a task that keeps its thread busy."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        spin(50)


def spin(times: int) -> None:
    for _ in range(times):
        pass
