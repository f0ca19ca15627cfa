"""Who gets the slots of a worker, and that they are free again, whatever becomes of a task."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from celery.worker import state
from kombu.common import QoS

from laneway.worker.slots import Slots

SIZE = 4


class Request:
    """What the pool gets of a request; the test plays the pool."""

    def __init__(self, *, revoked: bool = False) -> None:
        self.revoked = revoked
        self.started = False

    def execute_using_pool(self, pool: object) -> None:
        del pool
        if self.revoked:
            raise TaskRevokedError("revoked")
        self.started = True

    def on_accepted(self) -> None: ...

    def on_success(self) -> None: ...

    def on_failure(self) -> None:
        raise ValueError("the report fails as well")


class Worker:
    """A pool of four, whose tasks end when the test says so."""

    def __init__(self) -> None:
        self.slots = Slots(SimpleNamespace(num_processes=SIZE))
        self.qos: Any = QoS(lambda **_: None, SIZE)
        self.requests = list[Request]()

    def take(self, cost: int, request: Request | None = None) -> Request:
        """Take a message of a task."""
        request = request or Request()
        self.requests.append(request)
        state.reserved_requests.add(request)
        self.slots.admit(request, cost=cost, start=self._process, qos=self.qos)
        return request

    def _process(self, admission: Any) -> None:
        try:
            admission.execute_using_pool(None)
        except TaskRevokedError:  # as Celery's controller does
            return


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    for request in worker.requests:
        state.reserved_requests.discard(request)


def test_nothing_overtakes_a_heavy_task_that_waits(worker: Worker) -> None:
    light, other = worker.take(1), worker.take(1)
    heavy, later = worker.take(3), worker.take(1)
    assert [each.started for each in (light, other, heavy, later)] == [True, True, False, False]

    light.on_success()
    assert (heavy.started, later.started) == (True, False)
    other.on_success()
    assert later.started
    assert worker.slots.counts() == {"size": 4, "used": 4, "waiting": 0}


def test_a_task_that_costs_more_than_there_is_runs_alone(worker: Worker) -> None:
    first, second = worker.take(99), worker.take(1)
    assert (first.started, second.started) == (True, False)
    assert worker.slots.counts() == {"size": 4, "used": 4, "waiting": 1}
    first.on_success()
    assert second.started


def test_a_heavy_task_lowers_the_prefetch_count_while_it_is_here(worker: Worker) -> None:
    heavy, alone = worker.take(3), worker.take(99)
    assert worker.qos.value == 1
    heavy.on_success()
    alone.on_success()
    assert worker.qos.value == SIZE


def test_slots_are_free_after_a_revoked_task_and_after_a_failed_report(worker: Worker) -> None:
    failing = worker.take(4)
    worker.take(4, Request(revoked=True))
    last = worker.take(4)
    with pytest.raises(ValueError, match="fails as well"):
        failing.on_failure()
    assert last.started
    last.on_success()
    last.on_success()
    assert worker.slots.counts() == {"size": 4, "used": 0, "waiting": 0}
    assert worker.qos.value == SIZE


def test_what_celery_has_forgotten_neither_starts_nor_takes_slots(worker: Worker) -> None:
    running, waiting = worker.take(4), worker.take(1)
    for forgotten in (running, waiting):
        state.reserved_requests.discard(forgotten)
    worker.slots.forget()
    assert worker.take(4).started
    assert not waiting.started


def test_nothing_starts_while_the_worker_stops(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    running, waiting = worker.take(4), worker.take(1)
    monkeypatch.setattr(state, "should_stop", 0)
    running.on_success()
    assert not waiting.started
