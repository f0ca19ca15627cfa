"""The recorder records each event once in effect, whatever crashes or cannot be reached meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from threading import Event as Signal
from typing import Any

import pytest
from sqlalchemy import func, select

from laneway.engine import Engine, Event, EventKind
from laneway.platform.db.models import TaskAttempt, TaskEvent, TaskRun
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, HistoryBehind
from laneway.platform.execution.outcomes import AttemptSignal, Completed, Raised
from laneway.platform.history import journal_recorder as recorder_module
from laneway.platform.history.journal_projection import record
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.task import TaskState
from tests.fixtures.journal import attempts, event_kinds
from tests.fixtures.platform import Platform

AWAY = Raised(OSError("away"))
NOW = 1_790_000_000_000


def all_records(platform: Platform) -> dict[str, list[dict[str, Any]]]:
    """Every recorded row, by table."""
    with platform.database.reading() as session:
        return {
            table.__tablename__: [column_values(row) for row in session.scalars(select(table))]
            for table in (TaskRun, TaskAttempt, TaskEvent)
        }


def column_values(row: object) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


# --- each event once in effect ------------------------------------------------------------------------------


def events_of_every_end(platform: Platform) -> list[Event]:
    """Let tasks end in every way; returns their events, which are not recorded yet."""
    platform.chore()
    platform.work("maintenance", AWAY, schedule=(0.0,))
    platform.work("maintenance")
    cancelled = platform.chore()
    platform.tasks.cancel(cancelled)
    platform.chore()
    platform.engine.bury([platform.fetched("maintenance")], reason="rejected")
    platform.chore()
    platform.work("maintenance", Raised(ValueError("wrong")))
    platform.chore()
    platform.start("maintenance")
    return platform.engine.events("maintenance")


def test_recording_a_batch_twice_changes_nothing(platform: Platform) -> None:
    events = events_of_every_end(platform)
    platform.recorder.catch_up()
    before = all_records(platform)
    assert {row["state"] for row in before["task_runs"]} == {
        "completed",
        "cancelled",
        "dead_letter",
        "failed",
        "processing",
    }

    with platform.database.transaction() as session:
        record(session, "maintenance", events)

    after = all_records(platform)
    assert after["task_runs"] == before["task_runs"]
    assert after["task_attempts"] == before["task_attempts"]


class Crash(Exception):
    """Stands for a crash."""


def test_a_crash_between_the_commit_and_the_trimming_repeats_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_of_every_end(platform)
    unread = platform.engine.unread(["maintenance"])
    trim_journal = Engine.trim_journal

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    monkeypatch.setattr(Engine, "trim_journal", crash)
    with pytest.raises(Crash):
        platform.recorder.catch_up()
    monkeypatch.setattr(Engine, "trim_journal", trim_journal)
    before = all_records(platform)
    assert platform.engine.unread(["maintenance"]) == unread, "the journal was not trimmed"
    assert len(before["task_attempts"]) == 4

    assert platform.recorder.catch_up() == 0

    assert all_records(platform) == before
    assert platform.engine.unread(["maintenance"]) == [0]


def test_a_crash_before_the_commit_loses_nothing(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    events_of_every_end(platform)
    before, submit_on_failure = all_records(platform), recorder_module.submit_on_failure

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    monkeypatch.setattr(recorder_module, "submit_on_failure", crash)
    with pytest.raises(Crash):
        platform.recorder.catch_up()
    monkeypatch.setattr(recorder_module, "submit_on_failure", submit_on_failure)
    assert all_records(platform) == before, "nothing was committed"

    assert platform.recorder.catch_up() > 0
    assert {row["state"] for row in all_records(platform)["task_runs"]} > {"completed", "failed", "dead_letter"}


def test_simultaneous_recorders_record_each_event_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BATCH", 3)
    ids = [platform.chore() for _ in range(8)]
    for _ in ids:
        platform.work("maintenance", AWAY, schedule=(0.0,))
        platform.work("maintenance")
    unread, together = platform.engine.unread(["maintenance"])[0], Barrier(4)

    def catch_up(_: int) -> int:
        together.wait(10)
        return JournalRecorder(platform.database, platform.broker, platform.settings.tasks).catch_up()

    with ThreadPoolExecutor(4) as pool:
        recorded = list(pool.map(catch_up, range(4)))

    assert sum(recorded) == unread == 8 * 5
    for id in ids:
        assert attempts(platform, id) == [(1, "retry"), (2, "completed")]
        assert event_kinds(platform, id) == ["accepted", "put", "begin", "end", "begin", "end"]


def test_the_recorder_keeps_up_with_a_busy_worker(platform: Platform) -> None:
    done = Signal()

    def work() -> None:
        for number in range(15):
            platform.chore()
            platform.work("maintenance", AWAY if number % 3 else None, schedule=(0.0,))
        while platform.work("maintenance"):
            pass
        done.set()

    def follow() -> int:
        recorded = 0
        while not done.is_set() or platform.recorder.unread():
            recorded += platform.recorder.catch_up()
        return recorded

    with ThreadPoolExecutor(2) as pool:
        working, following = pool.submit(work), pool.submit(follow)
        working.result()
        following.result()

    assert {row.state for row in platform.rows()} == {"completed"}
    with platform.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(TaskAttempt)) == 15 + 10


# --- servers that cannot be reached -------------------------------------------------------------------------


def test_tasks_run_without_the_database_and_the_journal_keeps_the_events(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(3)]
    platform.recorder.catch_up()
    with platform.without_database():
        for _ in ids:
            platform.work("maintenance", Completed({"fine": True}))
        with pytest.raises(DatabaseUnavailable):
            platform.recorder.catch_up()
        platform.recorder.catch_up_quietly()
        assert platform.engine.unread(["maintenance"]) == [6]

    assert platform.recorder.catch_up() == 6
    assert {(platform.state(id), str(platform.row(id).result)) for id in ids} == {("completed", "{'fine': True}")}


def test_a_full_journal_refuses_new_tasks_and_lets_accepted_ones_end(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(2)]
    platform.recorder.catch_up()
    platform.engine.enable_journal("maintenance", 2)
    platform.work("maintenance")

    with pytest.raises(HistoryBehind):
        platform.chore("too-much")
    with platform.database.reading() as session:
        assert session.scalar(select(TaskRun.id).where(TaskRun.id == "too-much")) is None, "its row was withdrawn"
    with platform.without_database():
        platform.work("maintenance")

    assert platform.recorder.catch_up() >= 4
    assert {platform.state(id) for id in ids} == {TaskState.COMPLETED}
    platform.chore("now")
    assert platform.state("now") == TaskState.PENDING


def test_a_full_journal_drops_progress_but_no_outcomes(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.recorder.catch_up()
    platform.engine.enable_journal("maintenance", 1)
    for percent in range(5):
        assert platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": percent}) is AttemptSignal.CONTINUE
    assert platform.engine.unread(["maintenance"]) == [1]
    platform.end(attempt)

    assert platform.state(id) == TaskState.COMPLETED


def test_an_unreachable_broker_is_an_error_and_nothing_is_recorded(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance")
    platform.valkey.stop()
    try:
        with pytest.raises(BrokerUnavailable):
            platform.recorder.catch_up()
        assert platform.tasks.current(id).state == "pending", "the last recorded state"
    finally:
        platform.valkey.start()
