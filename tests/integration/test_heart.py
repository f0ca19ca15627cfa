"""Leases that are kept, and tasks that are interrupted where they are, never afterwards."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from threading import Thread

import pytest

from app.core import clock
from app.core.errors import TaskCancelled
from app.db.models import TaskRun
from app.db.repositories.task_runs import Attempt
from app.schemas.task import State
from app.services.executions import Executions, Stopped
from app.services.heart import Heart
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.waiting import wait_until

SOON = 5.0
"""Seconds within which a task must have been interrupted."""
BEAT = 0.05
"""Seconds between beats in these tests; the platform's own is at most two seconds."""


def test_a_lease_is_renewed_while_the_task_runs(platform: Platform) -> None:
    run = platform.start(platform.chore())
    first = run.lease_until
    assert first is not None
    with beating(platform).holding(run):
        later = wait_until(lambda: newer_lease(platform, run, than=first), seconds=SOON)

    assert later
    assert platform.row(run.id).state == "processing"


def test_a_lease_is_renewed_while_the_task_keeps_its_thread_busy(platform: Platform) -> None:
    run = platform.start(platform.chore())
    first = run.lease_until
    assert first is not None
    with beating(platform).holding(run):
        busy_for(0.5)

    assert newer_lease(platform, run, than=first)


def test_nothing_is_renewed_after_the_task(platform: Platform, movable_clock: MovableClock) -> None:
    run = platform.start(platform.chore())
    heart = beating(platform)
    with heart.holding(run):
        pass
    movable_clock.forward(3600)

    other = platform.start(platform.chore())
    first = other.lease_until
    assert first is not None
    with heart.holding(other):
        wait_until(lambda: newer_lease(platform, other, than=first), seconds=SOON)

    lease = platform.row(run.id).lease_until
    assert lease is not None
    assert lease < clock.now() - timedelta(seconds=3000)


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


def test_a_task_whose_lease_was_lost_is_interrupted(platform: Platform, movable_clock: MovableClock) -> None:
    run = platform.start(platform.chore())
    movable_clock.forward(platform.settings.tasks.lease_seconds + 1)
    assert platform.steward().take_over() == 1

    with pytest.raises(TaskCancelled), beating(platform).holding(run):
        busy_for(SOON)

    assert platform.end(run, Stopped()) is None
    assert platform.state(run.id) == State.SCHEDULED


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
    platform: Platform, movable_clock: MovableClock
) -> None:
    """The process lost the lease of the first while the database was away, and was given the second."""
    id, heart = platform.chore(), beating(platform)
    old = platform.start(id)
    movable_clock.forward(platform.settings.tasks.lease_seconds + 1)
    platform.steward().take_over()
    platform.steward().send_due()
    new = platform.start(id)
    first = new.lease_until
    assert first is not None
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
        now = clock.now()
        wait_until(lambda: newer_lease(platform, new, than=now + timedelta(seconds=1)), seconds=SOON)
        since = platform.row(id).lease_until
        assert since is not None
        wait_until(lambda: newer_lease(platform, new, than=since), seconds=SOON)

    assert platform.end(new) is State.COMPLETED


def test_the_heart_beats_on_after_the_database_was_away(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    run, failures = platform.start(platform.chore()), list[int]()
    first, renew = run.lease_until, Executions.renew
    assert first is not None

    def failing(self: Executions, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
        if len(failures) < 3:
            failures.append(1)
            raise RuntimeError("something that nobody thought of")
        return renew(self, owned)

    monkeypatch.setattr(Executions, "renew", failing)

    with beating(platform).holding(run):
        wait_until(lambda: newer_lease(platform, run, than=first), seconds=SOON)
    assert len(failures) == 3


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
    """Thousands of blocks that end just when they are interrupted; the answer to `renew` comes without a database."""
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
    assert executions.asked <= asked + 1, "nothing is left behind that it renews"


class StopEverybody(Executions):
    """Answers at once that every attempt was asked to stop."""

    def __init__(self) -> None:
        self.asked = 0

    def renew(self, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
        self.asked += 1
        return {(run.id, run.started_at): True for run in owned}


def beating(platform: Platform, *, every: float = BEAT) -> Heart:
    return Heart(platform.executions, lease_seconds=every * 5)


def newer_lease(platform: Platform, run: TaskRun, *, than: datetime) -> datetime | None:
    lease = platform.row(run.id).lease_until
    return lease if lease is not None and lease > than else None


def busy_for(seconds: float) -> None:
    """Compute, as a task does that holds its thread."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        spin(50)


def spin(times: int) -> None:
    for _ in range(times):
        pass
