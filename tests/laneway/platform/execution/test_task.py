"""What surrounds a task, delivered as a worker delivers it: also with the database, or the broker, away."""

# Celery and kombu are untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportUninitializedInstanceVariable=false

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from celery.concurrency.solo import TaskPool
from kombu.entity import Queue

from app.services.container import Services
from laneway.engine import Engine, MessageState, ServerLost
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.execution import attempts
from laneway.platform.execution.outcomes import Attempt
from laneway.platform.execution.task import PlatformTask
from laneway.platform.payload import Payload
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from laneway.worker.request import Request
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

WORKER = socket.gethostname()
"""As the tracer calls itself that is used here."""
SOON = 10.0
"""Seconds within which what is put off has come back."""


class Bench:
    """The conversation task with a body that the test gives, and deliveries of its messages to this process."""

    def __init__(self, platform: Platform, services: Services) -> None:
        self.platform, self.ran = platform, list[tuple[str, int]]()
        self.body: Callable[[PlatformTask], dict[str, Any]] = lambda _: {"fine": True}

        def work(task: PlatformTask, _payload: Payload) -> dict[str, Any]:
            self.ran.append((task.id, task.attempt))
            return self.body(task)

        attributes = {
            "name": "process_conversation_message_task",
            "spec": registry["process_conversation_message_task"],
            "work": staticmethod(work),
            "services": services,
        }
        self.task: Any = platform.app.register_task(type("Tried", (PlatformTask,), attributes)())
        self.connection: Any = None
        self.connect()

    def connect(self) -> None:
        """Anew, if it was connected: a worker does that when it has lost its connection."""
        self.close()
        self.connection = self.platform.app.connection_for_write()
        self.channel: Any = self.connection.default_channel

    def next(self) -> Callable[[], str] | None:
        """Take the next message; called, it is run with Celery's own request and tracer; its task's id."""
        message: Any = Queue("conversations")(self.channel).get()
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
        """Take the next message, run it, and see that its acknowledgement goes out."""
        run = self.next()
        id = run() if run else None
        self.connection.transport.lease_keeper.flush()
        return id

    def delivered(self) -> str:
        """The same as soon as there is one."""
        id = wait_until(self.deliver, seconds=SOON)
        assert id is not None
        return id

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def bench(platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Deliveries that come back soon when they are put off; the worker reported."""
    services.cancellation_watchdog._every = 0.05  # pyright: ignore[reportPrivateUsage]
    bench = Bench(platform, services)
    platform.alive(WORKER)
    yield bench
    bench.close()


def test_a_message_is_begun_run_concluded_and_acknowledged(bench: Bench, platform: Platform) -> None:
    id = platform.message()

    assert bench.delivered() == id

    row = platform.row(id)
    assert (row.state, row.result, row.attempts, row.worker) == ("completed", {"fine": True}, 1, WORKER)
    assert platform.places() == {}


def test_tasks_run_while_the_database_is_away_and_it_is_known_afterwards(bench: Bench, platform: Platform) -> None:
    ids = [platform.message() for _ in range(2)]
    with platform.without_database():
        assert [bench.delivered() for _ in ids] == ids
        assert platform.places() == {}

    assert bench.ran == [(id, 1) for id in ids]
    assert {platform.state(id) for id in ids} == {TaskState.COMPLETED}


def test_an_outcome_that_the_broker_did_not_take_in_time_is_tried_again(
    bench: Bench, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt counts as lost; its message keeps its place."""
    first, second = platform.message(), platform.message()
    conclude = Engine.conclude

    def away(*_: Any, **__: Any) -> Any:
        raise ServerLost("away")

    monkeypatch.setattr(Engine, "finish_attempt", away)
    monkeypatch.setattr(attempts, "monotonic", partial(next, count(0, 100)))  # its patience ends soon
    assert bench.delivered() == first
    monkeypatch.setattr(Engine, "finish_attempt", conclude)

    assert platform.places() == {first: MessageState.READY, second: MessageState.HELD}
    row = platform.row(first)
    assert (row.state, row.attempts, row.error_type) == ("pending", 1, "WorkerLost")

    assert [bench.delivered(), bench.delivered()] == [first, second]
    assert bench.ran == [(first, 1), (first, 2), (second, 1)]
    assert platform.state(first) == TaskState.COMPLETED


def test_an_attempt_that_could_not_be_begun_is_none_and_its_message_keeps_its_place(
    bench: Bench, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = platform.message(), platform.message()
    begin = Engine.begin

    def away(*_: Any, **__: Any) -> Any:
        raise ServerLost("away")

    monkeypatch.setattr(Engine, "start_attempt", away)
    monkeypatch.setattr(attempts, "monotonic", partial(next, count(0, 100)))  # its patience ends soon
    assert bench.delivered() == first
    monkeypatch.setattr(Engine, "start_attempt", begin)

    assert (bench.ran, platform.places()) == ([], {first: MessageState.READY, second: MessageState.HELD})
    assert platform.state(first) == TaskState.PENDING
    assert [bench.delivered(), bench.delivered()] == [first, second]
    assert (platform.state(first), platform.row(first).attempts) == (TaskState.COMPLETED, 1)


def test_a_message_whose_lease_went_to_somebody_else_is_not_run(bench: Bench, platform: Platform) -> None:
    id = platform.message()
    run = bench.next()
    assert run is not None
    lease = platform.engine.find("conversations", id).lease
    assert lease is not None
    platform.engine._settle("renew", (0,), [lease])  # pyright: ignore[reportPrivateUsage]
    attempt = platform.start(worker="worker-2")
    assert isinstance(attempt, Attempt)

    run()

    assert bench.ran == []
    assert platform.end(attempt)
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)


def test_a_retry_waits_at_the_head_of_its_key_and_those_behind_it_are_held(bench: Bench, platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    def work(_: PlatformTask) -> dict[str, Any]:
        if len(bench.ran) == 1:
            raise OSError("away")
        return {}

    bench.body = work
    bench.delivered()

    assert platform.state(first) == TaskState.SCHEDULED
    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD}


def test_a_task_that_reports_progress_after_a_cancel_stops(bench: Bench, platform: Platform) -> None:
    id = platform.message()

    def work(task: PlatformTask) -> dict[str, Any]:
        platform.tasks.cancel(id)
        task.progress(10)
        return {}

    bench.body = work
    bench.delivered()

    assert (platform.state(id), platform.places()) == (TaskState.CANCELLED, {})


def test_a_task_from_another_door_is_run_and_entered_into_the_history(bench: Bench, platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(
        "process_conversation_message_task",
        kwargs={"conversation_id": "c-1", "text": "Hello"},
        task_id="from-a-shell",
        queue="conversations",
    )

    with platform.without_database():
        assert bench.delivered() == "from-a-shell"

    row = platform.row("from-a-shell")
    assert (row.state, row.attempts, row.payload) == (
        "completed",
        1,
        {"conversation_id": "c-1", "text": "Hello"},
    )


def test_the_database_is_really_away_in_these_tests(platform: Platform) -> None:
    platform.chore()
    with platform.without_database(), pytest.raises(DatabaseUnavailable):
        platform.recorder.catch_up()
    assert platform.recorder.catch_up() == 1
