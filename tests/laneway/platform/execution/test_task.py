"""What happens around a task that is delivered as a worker delivers it, also without the database or the broker."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from celery.concurrency.solo import TaskPool  # pyright: ignore[reportMissingTypeStubs]
from kombu.entity import Queue
from sqlalchemy import select

from app.services.container import Services
from laneway.engine import Engine, MessageState, ServerLost
from laneway.platform.db.models import TaskEvent
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.execution import attempts
from laneway.platform.execution.context import Context
from laneway.platform.execution.declaration import declaration_of
from laneway.platform.execution.outcomes import Attempt
from laneway.platform.execution.task import PlatformTask
from laneway.platform.registry import registry
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from laneway.worker.request import Request
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

WORKER = socket.gethostname()
"""The name of the worker in Celery's tracer, which runs the tasks here."""
SOON = 10.0
"""Seconds within which a message that was put off is delivered again."""


class TaskRunner:
    """The conversation task with a body that the test chooses; its messages are delivered to this process."""

    def __init__(self, platform: Platform, services: Services) -> None:
        self.platform, self.ran = platform, list[tuple[str, int]]()
        self.body: Callable[[Context], dict[str, Any]] = lambda _: {"fine": True}

        def work(ctx: Context, _payload: Payload) -> dict[str, Any]:
            self.ran.append((ctx.id, ctx.attempt))
            return self.body(ctx)

        attributes = {
            "name": "process_conversation_message_task",
            "spec": registry["process_conversation_message_task"],
            "declaration": declaration_of(work, task="process_conversation_message_task"),
            "work": staticmethod(work),
            "platform": services,
        }
        self.task: Any = platform.app.register_task(type("TaskUnderTest", (PlatformTask,), attributes)())
        self.connection: Any = None
        self.connect()

    def connect(self) -> None:
        """Open a new connection, as a worker does after it lost its own."""
        self.close()
        self.connection = self.platform.app.connection_for_write()
        self.channel: Any = self.connection.default_channel

    def fetch(self) -> Callable[[], str] | None:
        """Take the next message; returns a function that runs it with Celery's own request and tracer."""
        queue: Any = Queue("conversations")
        message: Any = queue(self.channel).get()
        if message is None:
            return None
        request: Any = Request(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            hostname=WORKER,
            app=self.platform.app,
            task=self.task,
        )

        def run() -> str:
            request.execute_using_pool(TaskPool(app=self.platform.app))
            return message.headers["id"]

        return run

    def deliver(self) -> str | None:
        """Take the next message, run it and send its acknowledgement; returns the task id."""
        run = self.fetch()
        id = run() if run else None
        self.connection.transport.lease_keeper.flush()
        return id

    def deliver_next(self) -> str:
        """Wait for a message, and deliver it."""
        id = wait_until(self.deliver, seconds=SOON)
        assert id is not None
        return id

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def runner(platform: Platform, services: Services) -> Iterator[TaskRunner]:
    """A runner whose worker has reported, and whose watchdog checks often."""
    services.cancellation_watchdog._every = 0.05  # pyright: ignore[reportPrivateUsage]
    runner = TaskRunner(platform, services)
    platform.alive(WORKER)
    yield runner
    runner.close()


def test_a_message_is_run_its_result_stored_and_acknowledged(runner: TaskRunner, platform: Platform) -> None:
    id = platform.message()

    assert runner.deliver_next() == id

    row = platform.row(id)
    assert (row.state, row.result, row.attempts, row.worker) == ("completed", {"fine": True}, 1, WORKER)
    assert platform.places() == {}


def test_tasks_run_without_the_database_and_are_recorded_afterwards(runner: TaskRunner, platform: Platform) -> None:
    ids = [platform.message() for _ in range(2)]
    with platform.without_database():
        assert [runner.deliver_next() for _ in ids] == ids
        assert platform.places() == {}

    assert runner.ran == [(id, 1) for id in ids]
    assert {platform.state(id) for id in ids} == {TaskState.COMPLETED}


def test_a_task_runs_again_when_the_broker_did_not_take_its_outcome_in_time(
    runner: TaskRunner, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt counts as lost. Its message keeps its position."""
    first, second = platform.message(), platform.message()
    finish_attempt = Engine.finish_attempts

    def unreachable(*_: Any, **__: Any) -> Any:
        raise ServerLost("away")

    monkeypatch.setattr(Engine, "finish_attempts", unreachable)
    monkeypatch.setattr(attempts, "monotonic", partial(next, count(0, 100)))  # gives up after a few tries
    assert runner.deliver_next() == first
    monkeypatch.setattr(Engine, "finish_attempts", finish_attempt)

    assert platform.places() == {first: MessageState.READY, second: MessageState.HELD}
    row = platform.row(first)
    assert (row.state, row.attempts, row.error_type) == ("pending", 1, "WorkerLost")

    assert [runner.deliver_next(), runner.deliver_next()] == [first, second]
    assert runner.ran == [(first, 1), (first, 2), (second, 1)]
    assert platform.state(first) == TaskState.COMPLETED


def test_an_attempt_that_cannot_start_does_not_count_and_its_message_keeps_its_position(
    runner: TaskRunner, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = platform.message(), platform.message()
    start_attempt = Engine.start_attempts

    def unreachable(*_: Any, **__: Any) -> Any:
        raise ServerLost("away")

    monkeypatch.setattr(Engine, "start_attempts", unreachable)
    monkeypatch.setattr(attempts, "monotonic", partial(next, count(0, 100)))  # gives up after a few tries
    assert runner.deliver_next() == first
    monkeypatch.setattr(Engine, "start_attempts", start_attempt)

    assert (runner.ran, platform.places()) == ([], {first: MessageState.READY, second: MessageState.HELD})
    assert platform.state(first) == TaskState.PENDING
    assert [runner.deliver_next(), runner.deliver_next()] == [first, second]
    assert (platform.state(first), platform.row(first).attempts) == (TaskState.COMPLETED, 1)


def test_a_message_whose_lease_another_worker_has_is_not_run(runner: TaskRunner, platform: Platform) -> None:
    id = platform.message()
    run = runner.fetch()
    assert run is not None
    lease = platform.engine.find("conversations", id).lease
    assert lease is not None
    platform.engine._run_on_leases("renew", (0,), [lease])  # pyright: ignore[reportPrivateUsage]
    attempt = platform.start(worker="worker-2")
    assert isinstance(attempt, Attempt)

    run()

    assert runner.ran == []
    assert platform.end(attempt)
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)


def test_a_retry_keeps_its_position_and_later_tasks_of_its_key_are_held(runner: TaskRunner, platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    def work(_: PlatformTask) -> dict[str, Any]:
        if len(runner.ran) == 1:
            raise OSError("away")
        return {}

    runner.body = work
    runner.deliver_next()

    assert platform.state(first) == TaskState.SCHEDULED
    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD}


def test_a_task_that_reports_progress_after_a_cancel_stops(runner: TaskRunner, platform: Platform) -> None:
    id = platform.message()

    def work(task: PlatformTask) -> dict[str, Any]:
        platform.tasks.cancel(id)
        task.progress(10)
        return {}

    runner.body = work
    runner.deliver_next()

    assert (platform.state(id), platform.places()) == (TaskState.CANCELLED, {})


def progress_reports(platform: Platform, id: str) -> list[dict[str, Any]]:
    """The recorded progress of a task, oldest first."""
    platform.recorder.catch_up()
    with platform.database.reading() as session:
        found = select(TaskEvent).where(TaskEvent.task_id == id, TaskEvent.kind == "progress")
        return [event.data for event in session.scalars(found.order_by(TaskEvent.seq))]


def test_each_stage_and_the_last_report_are_recorded_however_fast_they_come(
    runner: TaskRunner, platform: Platform
) -> None:
    id = platform.message()

    def work(task: PlatformTask) -> dict[str, Any]:
        for percent, stage in ((10, "detecting the type"), (40, "reading"), (70, "storing")):
            task.progress(percent, stage)
        for percent in range(71, 100):
            task.progress(percent, "storing")
        return {}

    runner.body = work
    runner.deliver_next()

    row, reports = platform.row(id), progress_reports(platform, id)
    assert (row.state, row.progress, row.progress_message) == (TaskState.COMPLETED, 100, "storing")
    assert [(each["percent"], each["message"]) for each in reports[:3]] == [
        (10, "detecting the type"),
        (40, "reading"),
        (70, "storing"),
    ]
    assert reports[-1]["percent"] == 99 and len(reports) < 29


def test_many_stages_do_not_cost_a_report_each(runner: TaskRunner, platform: Platform) -> None:
    id = platform.message()

    def work(task: PlatformTask) -> dict[str, Any]:
        for number in range(300):
            task.progress(number / 3, f"row {number}")
        return {}

    runner.body = work
    runner.deliver_next()

    assert platform.row(id).progress_message == "row 299"
    assert len(progress_reports(platform, id)) < 100


def test_a_task_that_was_sent_past_the_platform_is_run_and_recorded(runner: TaskRunner, platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(
        "process_conversation_message_task",
        kwargs={"conversation_id": "c-1", "message": "Hello"},
        task_id="from-a-shell",
        queue="conversations",
    )

    with platform.without_database():
        assert runner.deliver_next() == "from-a-shell"

    row = platform.row("from-a-shell")
    assert (row.state, row.attempts, row.payload) == (
        "completed",
        1,
        {"conversation_id": "c-1", "message": "Hello"},
    )


def test_the_database_is_really_unreachable_in_these_tests(platform: Platform) -> None:
    platform.chore()
    with platform.without_database(), pytest.raises(DatabaseUnavailable):
        platform.recorder.catch_up()
    assert platform.recorder.catch_up() == 1
