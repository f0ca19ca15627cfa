"""`task.submit`, `submit_many`, `submit_async` and `options`: what they accept, store and send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from app.services.container import Services
from laneway import Context, Payload, task
from laneway.engine import UniqueMode
from laneway.platform.current import platform_for_this_context
from laneway.platform.errors import Conflict, DuplicateTask, InvalidPayload, QueueFull, UnknownQueue, Unsupported
from laneway.platform.queues import Priority
from laneway.platform.registry import BadTask, registry
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.schemas.choices import SubmitOutcome
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

QUEUE = "maintenance"


class Thumbnail(Payload):
    url: str
    width: int = 64


@task(queue=QUEUE, name="bound_thumbnail", key="url")
def make_thumbnail(ctx: Context, payload: Thumbnail) -> dict[str, int]:
    return {"width": payload.width, "attempt": ctx.attempt}


@task(queue=QUEUE, name="bound_add")
def add(x: int, y: int | None = 1, *, note: str = "") -> dict[str, Any]:
    return {"sum": x + (y or 0), "note": note}


@pytest.fixture(autouse=True)
def on_platform(platform: Platform, services: Services) -> Iterator[Platform]:
    """Calls of the test go to its platform."""
    for each in (make_thumbnail, add):
        registry.add(each.spec, each, source=f"{__name__}.{each.work.__qualname__}")
    with platform_for_this_context(services):
        yield platform
    for each in (make_thumbnail, add):
        registry.remove(each.name)


def test_a_submission_has_the_parameters_of_the_function(platform: Platform) -> None:
    first = add.submit(1, y=2, note="a")
    second = add.submit(x=5)

    assert (first.created, first.state) == (True, TaskState.PENDING)
    row = platform.row(first.task_id)
    assert (row.name, row.queue, row.payload) == ("bound_add", QUEUE, {"x": 1, "y": 2, "note": "a"})
    assert platform.row(second.task_id).payload == {"x": 5, "y": 1, "note": ""}


def test_none_is_stored_where_it_is_not_what_a_missing_argument_means(platform: Platform) -> None:
    assert platform.row(add.submit(1, None).task_id).payload == {"x": 1, "y": None, "note": ""}


def test_a_payload_is_given_whole_or_by_its_fields(platform: Platform) -> None:
    handles = [
        make_thumbnail.submit(Thumbnail(url="a")),
        make_thumbnail.submit({"url": "a"}),
        make_thumbnail.submit(url="a"),
    ]
    rows = [platform.row(handle.task_id) for handle in handles]
    assert [row.payload for row in rows] == [{"url": "a", "width": 64}] * 3
    assert {row.key for row in rows} == {"url:a"}


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a missing argument": (add.submit, "missing a required argument: 'x'"),
    "an unknown argument": (lambda: add.submit(1, z=2), "unexpected keyword argument 'z'"),  # pyright: ignore
    "one argument too many": (lambda: add.submit(1, 2, 3), "too many positional arguments"),  # pyright: ignore
    "an argument of another type": (lambda: add.submit("one"), "x: Input should be a valid integer"),  # pyright: ignore
    "an unknown field": (lambda: make_thumbnail.submit(url="a", size=3), "size: Extra inputs are not permitted"),
    "two payloads": (lambda: make_thumbnail.submit("a", 3), "expected one Thumbnail, or its fields"),  # pyright: ignore
    "a payload that is none": (lambda: make_thumbnail.submit("a"), "expected one Thumbnail"),  # pyright: ignore
    "one of many": (lambda: add.submit_many([(1,), ("one",)]), "x: Input should be a valid integer"),
    "a string for arguments": (lambda: add.submit_many(["ab"]), "a dict of arguments or a tuple"),  # pyright: ignore
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_the_function_cannot_take_is_refused_and_nothing_is_stored(platform: Platform, mistake: str) -> None:
    call, problem = WRONG[mistake]
    with pytest.raises(InvalidPayload, match=problem):
        call()
    assert platform.tasks.counts() == {}


def test_options_are_those_of_the_row(platform: Platform, movable_clock: MovableClock) -> None:
    handle = add.options(
        id="add-1", priority="high", delay=60, tags=["blue", "a"], key="customer-7", expires=timedelta(hours=1)
    ).submit(1)

    row = platform.row("add-1")
    assert (handle.task_id, handle.state, row.priority, row.key) == ("add-1", TaskState.SCHEDULED, 2, "customer-7")
    assert row.due_at is not None
    assert row.expires_at is not None
    assert abs((row.due_at - row.accepted_at).total_seconds() - 60) < 1
    assert row.tags == ["a", "blue"]
    assert abs((row.expires_at - row.accepted_at).total_seconds() - 3600) < 1
    later = datetime.now(UTC) + timedelta(seconds=90)
    row = platform.row(add.options(at=later, queue="crm", retries=7, priority=Priority.LOW).submit(1).task_id)
    assert row.due_at is not None
    assert abs((row.due_at - later).total_seconds()) < 1
    assert (row.queue, row.max_retries, row.priority) == ("crm", 7, 0)


def test_a_moment_is_one_also_when_the_options_are_used_later(platform: Platform, movable_clock: MovableClock) -> None:
    at = add.options(at=datetime.now(UTC) + timedelta(seconds=90))
    movable_clock.forward(3600)
    assert at.submit(1).state is TaskState.PENDING


def test_options_add_up_and_leave_the_task_alone(platform: Platform) -> None:
    urgent = add.options(priority="critical", tags=["a"])
    row = platform.row(urgent.options(tags=["b"]).submit(1).task_id)
    assert (row.priority, row.tags) == (3, ["b"])
    row = platform.row(add.submit(1).task_id)
    assert (row.priority, row.tags) == (1, [])


def test_a_repeat_with_the_same_id_is_the_first_task(platform: Platform) -> None:
    assert add.options(id="add-1").submit(1).created
    assert not add.options(id="add-1").submit(1, 1).created
    with pytest.raises(Conflict):
        add.options(id="add-1").submit(2)
    assert add.options(idempotency_key="an order / 7").submit(1).created
    assert not add.options(idempotency_key="an order / 7").submit(1).created


def test_the_rules_of_a_key_are_options(platform: Platform) -> None:
    debounced = add.options(debounce=timedelta(seconds=5), debounce_max=60, debounce_key="ada")
    first = debounced.submit(1)
    merged = asyncio.run(debounced.submit_async(2, note="late"))
    many = debounced.submit_many([(3,), (4,)])

    assert {handle.task_id for handle in (merged, *many)} == {first.task_id}
    assert platform.row(first.task_id).payload["x"] == 4
    add.options(key="bob").submit(1)
    assert add.options(key="bob", if_busy="drop").submit(2).outcome is SubmitOutcome.DROPPED
    assert add.options(throttle=60, key="eve").submit(1).created
    assert not add.options(throttle=60, key="eve").submit(1).created


def test_a_declaration_with_a_rule_needs_a_key_and_a_known_word() -> None:
    with pytest.raises(BadTask, match="if_busy='newest' needs the ordering key"):
        task(queue=QUEUE, if_busy="newest")(lambda: None)
    with pytest.raises(BadTask, match="did you mean 'newest'"):
        task(queue=QUEUE, key="url", if_busy="newst")(make_thumbnail.work)  # type: ignore[call-overload]


def test_one_of_a_uniqueness_key_is_accepted(platform: Platform) -> None:
    unique = add.options(unique="report", unique_mode=UniqueMode.UNTIL_DONE)
    unique.submit(1)
    with pytest.raises(DuplicateTask):
        unique.submit(2)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown one": ({"dely": 3}, "dely: Extra inputs are not permitted"),
    "a negative delay": ({"delay": -1}, "delay: Input should be greater than or equal to 0"),
    "a moment without a time zone": ({"at": datetime(2030, 1, 1)}, "at: Input should have timezone info"),  # noqa: DTZ001
    "two times": ({"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 3}, "give delay or at, not both"),
    "an unknown priority": ({"priority": "urgent"}, "priority: "),
    "an id that is too long": ({"id": "x" * 156}, "id: String should have at most 155 characters"),
    "an empty key": ({"key": ""}, "key: String should have at least 1 character"),
    "a key that is too long": ({"key": "x" * 201}, "key: String should have at most 200 characters"),
    "a key that is no text": ({"key": 7}, "key: Input should be a valid string"),
    "an unknown word": ({"if_busy": "newst"}, "if_busy: "),
    "a tag of two words": ({"tags": ["two words"]}, "tags: String should match pattern"),
    "negative retries": ({"retries": -1}, "retries: Input should be greater than or equal to 0"),
}


@pytest.mark.parametrize("mistake", BAD_OPTIONS)
def test_an_option_that_cannot_work_is_refused_by_name(mistake: str) -> None:
    options, problem = BAD_OPTIONS[mistake]
    with pytest.raises(InvalidOptions, match=problem) as refused:
        add.options(**options)
    assert "bound_add" in str(refused.value)


def test_an_undeclared_queue_is_refused() -> None:
    with pytest.raises(UnknownQueue, match="nowhere"):
        add.options(queue="nowhere").submit(1)


def test_many_tasks_are_one_transaction_and_one_call_of_the_broker(
    platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    published: list[int] = []
    publish = services.broker.publish_many

    def publish_many(runs: Any) -> Any:
        published.append(len(runs))
        return publish(runs)

    monkeypatch.setattr(services.broker, "publish_many", publish_many)

    def note(connection: object) -> None:
        begun.append(connection)

    event.listen(services.database.engine, "begin", note)
    try:
        handles = add.options(tags=["batch"]).submit_many([(1,), (2, 3), {"x": 4}], ids=["a", "b", "c"])
    finally:
        event.remove(services.database.engine, "begin", note)

    assert [handle.task_id for handle in handles] == ["a", "b", "c"]
    assert {handle.state for handle in handles} == {TaskState.PENDING}
    assert (published, len(begun)) == ([3], 2), "one transaction for the rows, one to mark them as sent"
    assert [platform.row(id).payload["x"] for id in "abc"] == [1, 2, 4]
    assert platform.row("b").tags == ["batch"]
    assert make_thumbnail.submit_many([]) == []
    assert len(make_thumbnail.submit_many([Thumbnail(url="a"), {"url": "b"}])) == 2


def test_many_tasks_are_accepted_or_none(
    platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidOptions, match="many tasks cannot have one id"):
        add.options(id="a").submit_many([(1,), (2,)])
    with pytest.raises(InvalidOptions, match="2 tasks have 1 ids"):
        add.submit_many([(1,), (2,)], ids=["a"])
    with pytest.raises(Unsupported):
        add.options(unique="a").submit_many([(1,), (2,)])
    limited = services.settings.tasks.model_copy(update={"max_queue_size": 2})
    monkeypatch.setattr(services.tasks.outbox, "_settings", limited)
    with pytest.raises(QueueFull):
        add.submit_many([(1,), (2,), (3,)])
    assert platform.tasks.counts() == {}


def test_a_coroutine_submits_while_the_event_loop_goes_on(
    platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission is slow here; meanwhile another coroutine of the loop runs."""
    submit = services.tasks.submit

    def slow_submit(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return submit(*args, **kwargs)

    monkeypatch.setattr(services.tasks, "submit", slow_submit)

    async def tick() -> int:
        ticks = 0
        while not submitted.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    async def main() -> tuple[int, list[Any]]:
        nonlocal submitted
        submitted = asyncio.ensure_future(add.submit_async(1, y=2))
        ticks = await tick()
        return ticks, [
            await submitted,
            await make_thumbnail.options(id="t-1").submit_async(url="a"),
            *await add.submit_many_async([(1,), (2,)]),
        ]

    submitted: asyncio.Future[Any]
    ticks, handles = asyncio.run(main())
    assert ticks >= 5
    assert [platform.state(handle.task_id) for handle in handles] == [TaskState.PENDING] * 4
    assert handles[1].task_id == "t-1"


def test_a_task_without_the_running_one_can_be_called_as_a_function() -> None:
    assert add(1, 2, note="x") == {"sum": 3, "note": "x"}
    with pytest.raises(TypeError, match="bound_thumbnail takes the running task, and none runs here"):
        make_thumbnail(Thumbnail(url="a"))
