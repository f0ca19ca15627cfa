"""What surrounds a task, delivered as a worker delivers it: also with the database, or the broker, away."""

# Celery and kombu are untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportUninitializedInstanceVariable=false

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency.solo import TaskPool
from kombu.entity import Queue

from app.core import catalog
from app.core.errors import DatabaseUnavailable
from app.schemas.task import Payload, State
from app.services.container import Services
from app.services.task_manager import adopted_row
from app.tasks import base
from app.tasks.base import PlatformTask
from laneway import State as Place
from laneway.requests import Request
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

        attributes = {"name": catalog.PROCESS_MESSAGE.name, "spec": catalog.PROCESS_MESSAGE,
                      "work": staticmethod(work), "services": services}  # fmt: skip
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
        request: Any = Request(message, on_ack=message.ack_log_error, on_reject=message.reject_log_error,
                               hostname=WORKER, app=self.platform.app, task=self.task)  # fmt: skip

        def run() -> str:
            request.execute_using_pool(TaskPool(app=self.platform.app))
            return message.headers["id"]

        return run

    def deliver(self) -> str | None:
        """Take the next message, run it, and see that its acknowledgement goes out."""
        run = self.next()
        id = run() if run else None
        self.connection.transport.leases.flush()
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
    monkeypatch.setattr(base, "AGAIN_AFTER", 0.3)
    services.heart._every = 0.05  # pyright: ignore[reportPrivateUsage]
    bench = Bench(platform, services)
    platform.alive(WORKER)
    yield bench
    bench.close()


def test_a_message_is_claimed_run_settled_and_acknowledged(bench: Bench, platform: Platform) -> None:
    id = platform.message()

    assert bench.delivered() == id

    row = platform.row(id)
    assert (row.state, row.result, row.attempts, row.worker) == ("completed", {"fine": True}, 1, WORKER)
    assert platform.places() == {}


def test_a_message_comes_back_when_the_database_was_away_at_its_claim(bench: Bench, platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    with platform.without_database():
        assert bench.delivered() == first

        assert bench.ran == []
        assert platform.places() == {first: Place.SCHEDULED, second: Place.HELD}, "it keeps its place"

    assert [bench.delivered(), bench.delivered()] == [first, second]
    assert bench.ran == [(first, 1), (second, 1)], "putting it off was no attempt"
    assert platform.state(first) == State.COMPLETED


def test_a_message_comes_back_for_as_long_as_the_database_is_away(
    bench: Bench, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery would give up after three of its retries."""
    monkeypatch.setattr(base, "AGAIN_AFTER", 0.02)
    first, second = platform.message(), platform.message()
    with platform.without_database():
        assert [bench.delivered() for _ in range(12)] == [first] * 12

    assert [bench.delivered(), bench.delivered()] == [first, second]
    assert bench.ran == [(first, 1), (second, 1)]


def test_a_message_comes_back_after_the_time_that_is_set(
    bench: Bench, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "AGAIN_AFTER", 5.0)
    platform.message()
    with platform.without_database():
        bench.delivered()

    (message,) = platform.messages(place=Place.SCHEDULED)
    assert message.at is not None
    assert 3.5 < message.at / 1000 - message.stored.enqueued_at / 1000 <= 5.1


@pytest.mark.parametrize("times", [1, 3])
def test_an_attempt_whose_outcome_could_not_be_stored_counts_as_lost(
    bench: Bench, platform: Platform, times: int
) -> None:
    """Its worker lives, so that only the message itself can tell; also if the database stays away for long."""
    first, second = platform.message(), platform.message()
    outage = platform.without_database()

    def work(_: PlatformTask) -> dict[str, Any]:
        if len(bench.ran) == 1:
            outage.__enter__()
        return {"ran": len(bench.ran)}

    bench.body = work
    try:
        assert [bench.delivered() for _ in range(times)] == [first] * times
        assert platform.places() == {first: Place.SCHEDULED, second: Place.HELD}
    finally:
        outage.__exit__(None, None, None)
    assert platform.state(first) == State.PROCESSING

    assert bench.delivered() == first

    row = platform.row(first)
    assert (row.state, row.attempts, row.result) == ("completed", 2, {"ran": 2})
    assert [bench.delivered(), bench.ran] == [second, [(first, 1), (first, 2), (second, 1)]]


def test_a_message_of_what_runs_elsewhere_comes_back_until_that_is_over(bench: Bench, platform: Platform) -> None:
    platform.alive("worker-2")
    id = platform.message()
    run = platform.start(id, worker="worker-2")

    assert bench.delivered() == id
    assert (bench.ran, platform.places()) == ([], {id: Place.SCHEDULED})
    assert bench.delivered() == id
    assert platform.row(id).attempts == 1

    platform.end(run)
    assert bench.delivered() == id
    assert (bench.ran, platform.places(), platform.row(id).attempts) == ([], {}, 1)


def test_a_message_of_a_task_that_is_over_is_dropped(bench: Bench, platform: Platform) -> None:
    id = platform.message()
    platform.end(platform.start(id, worker="worker-2"))

    bench.delivered()

    assert (bench.ran, platform.places(), platform.state(id)) == ([], {}, State.COMPLETED)


def test_a_message_is_not_buried_when_the_database_and_the_broker_go_away(bench: Bench, platform: Platform) -> None:
    """It can neither be settled nor put off: it is given back as it is, when the broker is there again."""
    id, outage = platform.message(), platform.without_database()

    def work(_: PlatformTask) -> dict[str, Any]:
        if len(bench.ran) == 1:
            outage.__enter__()
            platform.valkey.stop()
        return {}

    bench.body = work
    run = bench.next()
    assert run is not None
    try:
        run()
    finally:
        outage.__exit__(None, None, None)
        platform.valkey.start()

    wait_until(lambda: platform.places() == {id: Place.READY}, seconds=SOON)
    platform.alive(WORKER)  # a worker that was started since
    bench.connect()
    assert bench.delivered() == id
    assert (platform.state(id), bench.ran) == (State.COMPLETED, [(id, 1), (id, 2)])


def test_a_retry_waits_at_the_head_of_its_key_and_those_behind_it_are_held(bench: Bench, platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    def work(_: PlatformTask) -> dict[str, Any]:
        if len(bench.ran) == 1:
            raise OSError("away")
        return {}

    bench.body = work
    bench.delivered()

    assert platform.state(first) == State.SCHEDULED
    assert platform.places() == {first: Place.SCHEDULED, second: Place.HELD}


def test_a_task_that_reports_progress_after_a_cancel_stops(bench: Bench, platform: Platform) -> None:
    id = platform.message()

    def work(task: PlatformTask) -> dict[str, Any]:
        platform.tasks.cancel(id)
        task.progress(10)
        return {}

    bench.body = work
    bench.delivered()

    assert (platform.state(id), platform.places()) == (State.CANCELLED, {})


def test_a_task_from_another_door_is_entered_into_the_ledger_and_run(bench: Bench, platform: Platform) -> None:
    platform.app.send_task(catalog.PROCESS_MESSAGE.name, kwargs={"conversation_id": "c-1", "text": "Hello"},
                           task_id="from-a-shell", queue="conversations")  # fmt: skip

    with platform.without_database():
        assert bench.delivered() == "from-a-shell"
    assert bench.delivered() == "from-a-shell"

    row = platform.row("from-a-shell")
    assert (row.state, row.attempts, row.key) == ("completed", 1, "conversation_id:c-1")


def test_the_database_is_really_away_in_these_tests(platform: Platform) -> None:
    values = adopted_row(catalog.CLEANUP, {}, "x", platform.settings.tasks)
    with platform.without_database(), pytest.raises(DatabaseUnavailable):
        platform.executions.adopt(values)
    platform.executions.adopt(values)
