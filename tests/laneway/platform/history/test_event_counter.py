"""Each recorded event counts once, whatever crashes between the steps of recording."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from laneway.engine import Engine, Event, EventKind
from laneway.engine.event_counts import OTHER, EventCounts
from laneway.platform.db.models import TaskAttempt, TaskRun
from laneway.platform.execution.outcomes import Raised, Snoozed
from laneway.platform.history import event_counter
from laneway.platform.history import journal_recorder as recorder_module
from laneway.platform.history.event_counter import BOUNDS, MORE, EventCounter
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.task import FINISHED, TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

CHORE, QUEUE = "cleanup_old_data_task", "maintenance"
AWAY = Raised(OSError("away"))


def counted(platform: Platform, queue: str = QUEUE, label: str = CHORE) -> dict[str, int]:
    """Counter → number, without the durations."""
    found = EventCounts(platform.engine).read([queue])[0]
    return {
        counter: number
        for (task, counter), number in found.items()
        if task == label and counter.partition(":")[0] not in ("waited", "ran")
    }


def every_end(platform: Platform) -> None:
    """Let tasks end in every way; one is left running, and one waits."""
    platform.chore()
    platform.work(QUEUE, AWAY, schedule=(0.0,))
    platform.work(QUEUE, Snoozed(0))
    platform.work(QUEUE)
    platform.tasks.cancel(platform.chore())
    platform.chore()
    platform.engine.bury([platform.fetched(QUEUE)], reason="rejected")
    platform.chore()
    platform.work(QUEUE, Raised(ValueError("wrong")))
    platform.chore()
    platform.start(QUEUE)
    platform.chore()


ALL = {
    "enqueued": 6,
    "started": 5,
    "ended:retry": 1,
    "ended:snoozed": 1,
    "ended:completed": 1,
    "ended:failed": 1,
    "finished:completed": 1,
    "finished:cancelled": 1,
    "finished:dead_letter": 1,
    "finished:failed": 1,
}


def test_every_event_counts_once(platform: Platform) -> None:
    every_end(platform)
    platform.recorder.catch_up()
    assert counted(platform) == ALL
    assert platform.recorder.catch_up() == 0
    assert counted(platform) == ALL


class Crash(Exception):
    """Stands for a crash."""


def crash_after(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose caller dies after it has returned."""

    def call(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        raise Crash

    return call


@pytest.mark.parametrize(
    ("owner", "name"), [(EventCounts, "add"), (recorder_module, "submit_on_failure"), (Engine, "trim_journal")]
)
def test_a_crash_after_any_step_counts_nothing_twice_and_leaves_nothing_out(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    platform.recorder.catch_up()
    every_end(platform)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(owner, name, crash_after(getattr(owner, name)))
        platform.recorder.catch_up()
    platform.work(QUEUE)

    platform.recorder.catch_up()

    more = {"started": 6, "ended:completed": 2, "finished:completed": 2}
    assert counted(platform) == ALL | more


def test_simultaneous_recorders_count_each_event_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BATCH", 3)
    for _ in range(8):
        platform.chore()
        platform.work(QUEUE, AWAY, schedule=(0.0,))
        platform.work(QUEUE)
    together = Barrier(4)

    def catch_up(_: int) -> int:
        together.wait(10)
        return JournalRecorder(platform.database, platform.broker, platform.settings.tasks).catch_up()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(catch_up, range(4)))
    platform.recorder.catch_up()

    expected = {"enqueued": 8, "started": 16, "ended:retry": 8, "ended:completed": 8, "finished:completed": 8}
    assert counted(platform) == expected


def test_events_that_an_earlier_version_recorded_are_not_missed_later(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.chore()
    platform.recorder.catch_up()
    with monkeypatch.context() as earlier:
        earlier.setattr(JournalRecorder, "_count", lambda *_, **__: None)
        platform.chore()
        platform.recorder.catch_up()
    platform.chore()
    platform.recorder.catch_up()

    assert counted(platform) == {"enqueued": 2}


def test_a_lost_attempt_counts_as_lost_and_its_time_does_not(platform: Platform) -> None:
    platform.chore()
    platform.begun(platform.fetched(QUEUE, lease=0.05))
    wait_until(lambda: platform.fetch(QUEUE), seconds=10)
    platform.recorder.catch_up()

    assert counted(platform) == {"enqueued": 1, "started": 1, "ended:lost": 1}
    assert not [counter for _, counter in EventCounts(platform.engine).read([QUEUE])[0] if counter.startswith("ran")]


def test_unknown_names_are_counted_together(platform: Platform) -> None:
    platform.broker.prepare()  # it enables the journals
    for number in range(3):
        platform.app.send_task(f"nobody.knows.{number}", queue=QUEUE)
    platform.recorder.catch_up()

    assert counted(platform, label=OTHER) == {"enqueued": 3}
    assert {label for label, _ in EventCounts(platform.engine).read([QUEUE])[0]} == {OTHER}


def test_a_recorder_that_does_not_know_the_task_counts_under_its_name(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API of an earlier version records, too."""
    platform.chore()
    platform.recorder.catch_up()
    platform.work(QUEUE)
    monkeypatch.setattr(event_counter, "registry", {})

    platform.recorder.catch_up()

    assert counted(platform)["finished:completed"] == 1
    assert counted(platform, label=OTHER) == {}


def test_the_counters_agree_with_the_rows(platform: Platform) -> None:
    every_end(platform)
    platform.recorder.catch_up()
    with platform.database.reading() as session:
        attempts = dict(session.execute(select(TaskAttempt.outcome, func.count()).group_by(TaskAttempt.outcome)).all())
        states = dict(session.execute(select(TaskRun.state, func.count()).group_by(TaskRun.state)).all())
    found = counted(platform)

    assert {name.partition(":")[2]: n for name, n in found.items() if name.startswith("ended:")} == {
        outcome: number for outcome, number in attempts.items() if outcome is not None
    }
    assert {name.partition(":")[2]: n for name, n in found.items() if name.startswith("finished:")} == {
        state: number for state, number in states.items() if state in FINISHED
    }
    assert found["enqueued"] == sum(states.values())


# --- durations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "bound"),
    [(-5, "5"), (0, "5"), (5, "5"), (6, "10"), (BOUNDS[-1], str(BOUNDS[-1])), (BOUNDS[-1] + 1, MORE)],
)
def test_a_duration_counts_up_to_its_bound(milliseconds: int, bound: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    run = TaskRun(name=CHORE, state=TaskState.PROCESSING)
    run.ready_at, run.started_at = start, start + timedelta(milliseconds=milliseconds)
    counter = EventCounter()

    counter.note(run, Event("7-0", EventKind.START, "t", "t"), was_finished=False, ended=None)

    expected = {"started": 1, f"waited:{bound}": 1, "waited": max(0, milliseconds)}
    assert counter.counts() == {(CHORE, name): number for name, number in expected.items()}
    assert counter.counts(after="6-9") == counter.counts()
    assert counter.counts(after="7-0") == {}
