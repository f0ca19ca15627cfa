"""Messages are gathered into chunks, and what becomes of the pool's one job is told to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import TaskRevokedError
from celery.worker import state
from kombu.common import QoS

from laneway.worker.chunks import MOST_BYTES, Chunk, Gatherer

SIZE = 3


class Request:
    """A message; it notes what it is told."""

    def __init__(self, id: str, group: str = "a", *, body: bytes = b"x", timeout: float | None = None) -> None:
        self.id, self.body, self.kwargs, self.args = id, body, {"group": group}, ()
        self.told = list[Any]()
        self.timeout = timeout
        self._already_revoked = False

    def execute_using_pool(self, pool: Any) -> None:
        if self._already_revoked:
            raise TaskRevokedError("revoked")
        pool.apply_async(
            "trace",
            args=(self.id,),
            callback=self.told.append,
            error_callback=lambda failure: self.told.append(getattr(failure.exception, "exc", failure.exception)),
            accept_callback=lambda pid, _: self.told.append(pid),
            timeout_callback=lambda soft, _: self.told.append(soft),
            soft_timeout=None,
            timeout=self.timeout,
            correlation_id=self.id,
        )


class Worker:
    """A consumer whose pool keeps its jobs, and whose timers fire when the test says so."""

    def __init__(self) -> None:
        self.jobs = list[dict[str, Any]]()
        self.timers = list[Callable[[], None]]()
        self.qos: Any = QoS(lambda **_: None, 1)
        self.pool: Any = SimpleNamespace(apply_async=lambda _, **job: self.jobs.append(job))
        self.timer = SimpleNamespace(call_after=lambda _, call, args: self.timers.append(lambda: call(*args)))
        task: Any = SimpleNamespace(
            name="t", chunk=SimpleNamespace(size=SIZE, seconds=1), chunk_group=lambda _, kwargs: kwargs["group"]
        )
        self.gatherer = Gatherer(task, self, start=self.start)
        self.requests = list[Request]()

    def start(self, chunk: Chunk) -> None:
        """As Celery's controller gives a request to the pool."""
        try:
            chunk.execute_using_pool(self.pool)
        except TaskRevokedError:
            return

    def take(self, id: str, group: str = "a", **more: Any) -> Request:
        """Take a message."""
        request = Request(id, group, **more)
        self.requests.append(request)
        state.reserved_requests.add(request)
        self.gatherer.add(request)
        return request

    def ids(self) -> list[list[str]]:
        """The messages of each job."""
        return [[call[0] for call in job["args"][2]] for job in self.jobs]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    for request in worker.requests:
        state.reserved_requests.discard(request)


def failure(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:  # noqa: BLE001
        return ExceptionInfo()


def test_a_chunk_closes_when_it_is_full_or_its_time_is_over(worker: Worker) -> None:
    for number in range(4):
        worker.take(str(number))
    assert worker.ids() == [["0", "1", "2"]]
    worker.timers[0]()
    assert len(worker.jobs) == 1, "the timer is that of the first chunk"
    worker.timers[1]()
    assert worker.ids() == [["0", "1", "2"], ["3"]]


def test_groups_are_gathered_apart(worker: Worker) -> None:
    for number, group in enumerate("abaab"):
        worker.take(str(number), group)
    assert worker.ids() == [["0", "2", "3"]]


def test_a_chunk_closes_when_its_messages_are_large(worker: Worker) -> None:
    worker.take("0", body=b"x" * MOST_BYTES)
    assert worker.ids() == [["0"]]


def test_the_prefetch_count_grows_with_the_chunk_and_is_as_before_at_its_end(worker: Worker) -> None:
    seen = list[int]()
    for number in range(3):
        worker.take(str(number))
        seen.append(worker.qos.value)
    assert seen == [2, 3, 3]
    worker.jobs[0]["callback"](["a", "b", "c"])
    assert worker.qos.value == 1
    assert [request.told for request in worker.requests] == [["a"], ["b"], ["c"]]

    worker.take("3")
    worker.timers[-1]()
    assert worker.qos.value == 1, "a chunk of one needs no more room"


def test_what_was_revoked_or_forgotten_while_it_waited_does_not_run(worker: Worker) -> None:
    first, second = worker.take("0"), worker.take("1")
    first._already_revoked = True
    state.reserved_requests.discard(second)
    worker.take("2")
    assert worker.ids() == [["2"]]


def test_a_new_connection_runs_what_celery_has_not_forgotten(worker: Worker) -> None:
    forgotten = worker.take("0")
    worker.take("1")
    state.reserved_requests.discard(forgotten)
    worker.gatherer.close_all()
    assert worker.ids() == [["1"]]


def test_a_worker_that_stops_runs_no_chunk(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.take("0")
    monkeypatch.setattr(state, "should_stop", 0)
    worker.timers[0]()
    assert worker.jobs == []


def test_the_shortest_time_limit_is_that_of_the_chunk(worker: Worker) -> None:
    for number, timeout in enumerate((None, 20.0, 10.0)):
        worker.take(str(number), timeout=timeout)
    assert (worker.jobs[0]["timeout"], worker.jobs[0]["soft_timeout"]) == (10, None)
    worker.jobs[0]["timeout_callback"](False, 10)
    assert [request.told for request in worker.requests] == [[False]] * 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WorkerLostError("died"), WorkerLostError),
        (MemoryError(), WorkerLostError),
        (TimeLimitExceeded(5), TimeLimitExceeded),
    ],
)
def test_an_error_of_the_pool_is_a_lost_attempt_of_each_message(
    worker: Worker, error: Exception, told: type[Exception]
) -> None:
    for number in range(3):
        worker.take(str(number))
    worker.jobs[0]["error_callback"](failure(error))
    assert [type(request.told[0]) for request in worker.requests] == [told] * 3
    assert worker.qos.value == 1


def test_only_the_message_that_was_terminated_is_so(worker: Worker) -> None:
    for number in range(3):
        worker.take(str(number))
    worker.requests[1]._already_revoked = True
    worker.jobs[0]["error_callback"](failure(Terminated(15)))
    assert [type(request.told[0]) for request in worker.requests] == [WorkerLostError, Terminated, WorkerLostError]


def test_a_report_that_fails_does_not_keep_the_others_from_theirs(worker: Worker) -> None:
    for number in range(3):
        worker.take(str(number))

    def fail(_: object) -> None:
        raise SystemExit(3)

    job = worker.jobs[0]
    job["callback"].__self__._jobs[0].callback = fail
    with pytest.raises(SystemExit):
        job["callback"](["a", "b", "c"])
    assert [request.told for request in worker.requests[1:]] == [["b"], ["c"]]
