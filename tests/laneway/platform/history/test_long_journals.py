"""The long journal of one queue delays neither readers nor senders of other queues, nor the report of a worker."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as Signal
from typing import Any

import pytest
from structlog.testing import capture_logs

from laneway.engine import Engine, Message
from laneway.platform.db.queries import task_events as repository
from laneway.platform.history import journal_recorder as recorder_module
from laneway.platform.history.event_stream import EventStream
from laneway.platform.history.journal_recorder import READ_SECONDS, JournalRecorder
from laneway.platform.operations import maintenance as maintenance_module
from laneway.platform.operations.maintenance import Maintenance
from laneway.platform.queues import queues as declared
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

BUSY = "maintenance"
BATCH = 10

on_sqlite = pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)


def fill(engine: Engine, events: int, *, queue: str = BUSY) -> None:
    """Let the journal of a queue have so many events that nobody has recorded."""
    engine.enable_journal(queue, 1_000_000)
    messages = [Message(task_id=f"{queue}-{number}", name="cleanup_old_data_task") for number in range(events)]
    assert not [result for result in engine.put_many(queue, messages) if result.error()]


def unread(platform: Platform, queue: str = BUSY) -> int:
    return platform.engine.unread([queue])[0]


@pytest.fixture
def slow_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording a batch of `BATCH` events takes half the time that a reader has."""
    moment, record_batch = [0.0], JournalRecorder._record_batch  # pyright: ignore[reportPrivateUsage]

    def slow(self: JournalRecorder, engine: Engine, queue: str) -> int:
        moment[0] += READ_SECONDS / 2
        return record_batch(self, engine, queue)

    monkeypatch.setattr(JournalRecorder, "_record_batch", slow)
    monkeypatch.setattr(recorder_module, "monotonic", lambda: moment[0])
    monkeypatch.setattr(recorder_module, "BATCH", BATCH)


# --- readers ------------------------------------------------------------------------------------------------


@on_sqlite
def test_ten_thousand_events_of_another_queue_do_not_delay_a_status(platform: Platform) -> None:
    id = platform.message()
    platform.work()
    fill(platform.engine, 10_000)

    assert platform.tasks.status(id).status is TaskState.COMPLETED
    assert unread(platform) == 10_000, "the reader recorded its own queue only"


@pytest.mark.usefixtures("slow_batches")
def test_a_status_behind_a_long_journal_says_what_is_known_and_how_much_is_not(platform: Platform) -> None:
    id = platform.chore()
    platform.recorder.catch_up()
    fill(platform.engine, 50)
    with capture_logs() as logs:
        assert platform.tasks.status(id).status is TaskState.PENDING

    assert unread(platform) == 50 - 2 * BATCH
    assert [entry["unread"] for entry in logs if entry["event"] == "the history is behind"] == [{BUSY: 50 - 2 * BATCH}]


@pytest.mark.usefixtures("slow_batches")
@pytest.mark.parametrize("read", [lambda tasks: tasks.queues(), lambda tasks: tasks.active()], ids=["queues", "active"])
def test_readers_of_all_queues_stop_when_their_time_is_over(platform: Platform, read: Callable[[Any], object]) -> None:
    fill(platform.engine, 50)

    read(platform.tasks)

    assert unread(platform) == 50 - 2 * BATCH


@pytest.mark.usefixtures("slow_batches")
def test_queues_take_turns_so_that_a_long_journal_delays_no_other(platform: Platform) -> None:
    busy, other = next(iter(declared)), BUSY
    id = platform.chore()
    platform.work(other)
    fill(platform.engine, 50, queue=busy)

    platform.tasks.queues()

    assert (unread(platform, busy), unread(platform, other)) == (50 - BATCH, 0)
    assert next(row.state for row in platform.rows() if row.id == id) == "completed"


@pytest.mark.usefixtures("slow_batches")
def test_an_event_stream_tells_news_while_another_queue_is_behind(platform: Platform) -> None:
    id = platform.message()
    platform.recorder.catch_up()
    fill(platform.engine, 2000)
    noticed = Signal()
    with EventStream(platform.database, platform.recorder, platform.tasks).subscribe(id, noticed.set):
        platform.work()
        assert noticed.wait(20)
        assert unread(platform) > 0


# --- the threads of a worker ----------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maintenance that looks for due jobs many times a second."""
    monkeypatch.setattr(maintenance_module, "TICK", 0.02)


def frequently_reporting(platform: Platform) -> Maintenance:
    """The maintenance of a worker that reports ten times a second."""
    return Maintenance(
        platform.database,
        platform.broker,
        platform.tasks,
        platform.recorder,
        platform.reconciliation,
        name="w1",
        queues=[BUSY],
        lease_seconds=0.5,
    )


class Counted:
    """Counts how often a job of the maintenance began and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, job: str) -> None:
        self.begun = self.ended = 0
        original: Callable[[Maintenance], object] = getattr(Maintenance, job)

        def counted(maintenance: Maintenance) -> object:
            self.begun += 1
            try:
                return original(maintenance)
            finally:
                self.ended += 1

        counted.__name__ = job
        monkeypatch.setattr(Maintenance, job, counted)

    @property
    def stuck(self) -> bool:
        return self.begun > self.ended


@pytest.mark.usefixtures("fast")
def test_a_worker_reports_while_its_recorder_waits_for_the_broker(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.message()
    jobs = {job: Counted(monkeypatch, job) for job in ("report", "record")}
    maintenance = frequently_reporting(platform)

    def reports_three_times_during_one_call() -> bool:
        """Within the time that a call of the broker takes until it is given up."""
        call, before = jobs["record"].begun, jobs["report"].ended
        wait_until(lambda: jobs["report"].ended >= before + 3, seconds=20)
        return jobs["record"].stuck and jobs["record"].begun == call

    maintenance.start()
    try:
        with platform.valkey.frozen():
            wait_until(reports_three_times_during_one_call, seconds=60)
            assert platform.tasks.live_workers() == 1
    finally:
        maintenance.stop()


@on_postgresql
@pytest.mark.usefixtures("fast")
def test_a_worker_reports_and_sends_while_a_journal_cannot_be_recorded(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.chore()
    platform.recorder.catch_up()
    kept = platform.webhook(id="kept").task_id
    platform.recorder.catch_up()
    platform.lose("webhooks")
    platform.tasks.outbox.park(platform.row(kept))
    jobs = {job: Counted(monkeypatch, job) for job in ("report", "record")}
    maintenance = frequently_reporting(platform)
    try:
        with platform.database.transaction() as session:
            repository.lock_cursor(session, BUSY)
            platform.chore()
            maintenance.start()
            wait_until(lambda: jobs["record"].stuck, seconds=10)
            wait_until(lambda: platform.sent("webhooks") == [kept], seconds=10)
            before = jobs["report"].ended
            wait_until(lambda: jobs["report"].ended >= before + 3, seconds=10)
            assert jobs["record"].ended == 0
        wait_until(lambda: jobs["record"].ended and not unread(platform), seconds=10)
    finally:
        maintenance.stop()
