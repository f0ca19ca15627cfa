"""Platform tasks in Celery's canvas: what comes before a task is a positional argument, as of any other Celery task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from celery import chain, chord, group
from pydantic import Field

from app.services.container import Services
from laneway import Context, task
from laneway.engine import MessageState
from laneway.platform.execution.task import PlatformTask
from laneway.platform.history.adoption import payload_of_call
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from tests.fixtures.in_process_worker import run_messages
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

QUEUE = "maintenance"


class Part(Payload):
    number: int


class Summary(Payload):
    results: list[dict[str, int]] = Field(alias="parts")
    title: str = "none"


class Next(Payload):
    before: dict[str, int]
    factor: int = 1


@cache
def declared_tasks() -> tuple[PlatformTask, ...]:
    """Declare the tasks, once."""

    @task(queue=QUEUE)
    def canvas_part(ctx: Context, payload: Part) -> dict[str, int]:
        return {"number": payload.number}

    @task(queue=QUEUE)
    def canvas_summary(ctx: Context, payload: Summary) -> dict[str, Any]:
        return {"sum": sum(result["number"] for result in payload.results), "title": payload.title}

    @task(queue=QUEUE)
    def canvas_next(ctx: Context, payload: Next) -> dict[str, int]:
        return {"number": payload.before["number"] * payload.factor}

    @task(queue=QUEUE, key="customer", priority=Priority.HIGH)
    def canvas_plain(before: dict[str, Any], factor: int = 1, *, customer: int | None = None) -> dict[str, Any]:
        return {"number": before["number"] * factor, "customer": customer}

    @task(queue=QUEUE)
    def canvas_total(ctx: Context, results: list[dict[str, Any]], title: str = "none") -> dict[str, Any]:
        return {"sum": sum(result["number"] for result in results), "title": title, "attempt": ctx.attempt}

    return canvas_part, canvas_summary, canvas_next, canvas_plain, canvas_total


class Canvas:
    """Tasks of the platform, and a worker in this process."""

    def __init__(self, platform: Platform, services: Services) -> None:
        self.platform = platform
        self.part, self.summary, self.next, self.plain, self.total = (
            self._bound(each, services) for each in declared_tasks()
        )

    def _bound(self, declared: PlatformTask, services: Services) -> Any:
        type(declared).platform = services  # pyright: ignore[reportAttributeAccessIssue] - a class of its own
        return self.platform.app.register_task(declared)

    def run_all(self) -> None:
        """Run messages until none is left, as a worker does."""
        run_messages(self.platform, QUEUE)

    def result(self, sent: Any) -> Any:
        """The result of a canvas when all its tasks have run."""
        self.run_all()
        return wait_until(lambda: sent.result if sent.ready() else None, seconds=10)


@pytest.fixture
def canvas(platform: Platform, services: Services) -> Iterator[Canvas]:
    platform.alive("worker-1")
    platform.broker.prepare()
    for declared in declared_tasks():
        registry.add(declared.spec, declared, source=f"{__name__}.{declared_tasks.__name__}.<locals>.{declared.name}")
    yield Canvas(platform, services)
    for declared in declared_tasks():
        registry.remove(declared.name)


def test_the_body_of_a_chord_gets_the_results_of_the_header(canvas: Canvas) -> None:
    header = group(canvas.part.s(number=number) for number in (1, 2, 3))
    sent = chord(header)(canvas.summary.s(title="all"))

    assert canvas.result(sent) == {"sum": 6, "title": "all"}
    row = canvas.platform.row(sent.id)
    assert (row.state, row.name) == (TaskState.COMPLETED, "canvas_summary")
    assert row.payload == {"parts": [{"number": 1}, {"number": 2}, {"number": 3}], "title": "all"}


def test_a_task_of_a_chain_gets_the_result_before_it(canvas: Canvas) -> None:
    sent = chain(canvas.part.s(number=4), canvas.next.s(factor=10), canvas.next.s())()
    assert canvas.result(sent) == {"number": 40}


def test_plain_arguments_get_the_results_before_them(canvas: Canvas) -> None:
    sent = chain(canvas.part.s(number=4), canvas.plain.s(factor=10), canvas.plain.s(2, customer=7))()
    assert canvas.result(sent) == {"number": 80, "customer": 7}
    assert canvas.platform.row(sent.id).payload == {
        "before": {"number": 40, "customer": None},
        "factor": 2,
        "customer": 7,
    }


def test_the_body_of_a_chord_may_have_plain_arguments(canvas: Canvas) -> None:
    sent = chord(group(canvas.plain.s({"number": number}, 2) for number in (1, 2)))(canvas.total.s(title="all"))
    assert canvas.result(sent) == {"sum": 6, "title": "all", "attempt": 1}


@pytest.mark.parametrize("how", ["delay", "apply_async", "send_task", "signature"])
def test_plain_arguments_go_to_the_queue_of_their_task_with_key_and_priority(canvas: Canvas, how: str) -> None:
    args, kwargs = ({"number": 2}, 3), {"customer": 7}
    app = canvas.platform.app
    calls: dict[str, Callable[[], Any]] = {
        "delay": lambda: canvas.plain.delay(*args, **kwargs),
        "apply_async": lambda: canvas.plain.apply_async(args, kwargs),
        "send_task": lambda: app.send_task("canvas_plain", args, kwargs),
        "signature": lambda: app.signature("canvas_plain", args, kwargs).apply_async(),
    }
    sent = calls[how]()

    (found,) = canvas.platform.engine.peek(QUEUE, MessageState.READY)
    assert (found.stored.message.key, found.stored.message.priority) == ("customer:7", 3 * Priority.HIGH)
    assert canvas.result(sent) == {"number": 6, "customer": 7}
    assert canvas.platform.row(sent.id).payload == {"before": {"number": 2}, "factor": 3, "customer": 7}


def test_plain_arguments_that_do_not_fit_are_a_failure_that_names_them(canvas: Canvas) -> None:
    wrong = [canvas.plain.delay("x"), canvas.plain.delay({"number": 1}, factor="much"), canvas.plain.delay()]
    canvas.run_all()
    rows = [canvas.platform.row(sent.id) for sent in wrong]
    assert [(row.state, row.error_type) for row in rows] == [(TaskState.FAILED, "InvalidPayload")] * 3
    for row, name in zip(rows, ("before", "factor", "before"), strict=True):
        assert name in str(row.error)


def test_an_immutable_body_gets_no_results(canvas: Canvas) -> None:
    sent = chord([canvas.part.s(number=1), canvas.part.s(number=2)])(canvas.summary.si(parts=[], title="own"))
    assert canvas.result(sent) == {"sum": 0, "title": "own"}


def test_a_row_that_was_adopted_from_positional_arguments_can_be_sent_again(canvas: Canvas) -> None:
    sent = canvas.next.apply_async(args=[{"number": 2}], kwargs={"factor": 3})
    assert canvas.result(sent) == {"number": 6}
    assert canvas.platform.row(sent.id).payload == {"before": {"number": 2}, "factor": 3}
    canvas.platform.tasks.retry(sent.id)
    canvas.run_all()
    assert canvas.platform.state(sent.id) == TaskState.COMPLETED


def test_results_that_no_field_takes_are_a_failure_that_says_so(canvas: Canvas) -> None:
    sent = chain(canvas.part.s(number=4), canvas.part.s(number=5))()
    canvas.run_all()
    row = canvas.platform.row(sent.id)
    assert (row.state, row.error_type) == (TaskState.FAILED, "InvalidPayload")
    assert row.error is not None
    assert "positional" in row.error


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "payload"),
    [
        ("canvas_part", [], {"number": 1}, {"number": 1}),
        ("canvas_part", [1], {}, {"number": 1}),
        ("canvas_part", [1], {"number": 2}, {"number": 2, "args": [1]}),
        ("canvas_part", [1, 2], {}, {"args": [1, 2]}),
        ("canvas_summary", [[], "t"], {}, {"parts": [], "title": "t"}),
        ("no_such_task", [1], {"a": 2}, {"a": 2, "args": [1]}),
    ],
)
@pytest.mark.usefixtures("canvas")
def test_positional_arguments_are_the_first_fields(
    name: str, args: list[Any], kwargs: dict[str, Any], payload: dict[str, Any]
) -> None:
    assert payload_of_call(name, args, kwargs) == payload
