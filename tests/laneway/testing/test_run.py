"""`laneway.testing.run`: a task runs in this process as a worker would run it, and nothing waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded  # pyright: ignore[reportMissingTypeStubs]
from celery import Celery, _state

from laneway import Context, Payload, task
from laneway.platform import clock
from laneway.platform.errors import InvalidPayload, PermanentError, UnknownTaskType
from laneway.platform.execution.celery_results import TaskFailed
from laneway.platform.execution.task import PlatformTask
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.wait_errors import WaitTimedOut
from laneway.schemas.task import TaskState
from laneway.testing import Clock, LocalRun, Progress, run

NUMBERS = count()


class Thumbnail(Payload):
    """What a user's task is given."""

    url: str
    fails: int = 0
    how: str = "retryable"


ERRORS = {
    "retryable": OSError("away"),
    "permanent": PermanentError("no such picture"),
    "bug": KeyError("width"),
    "limit": SoftTimeLimitExceeded(),
}


def thumbnails(ctx: Context, payload: Thumbnail) -> dict[str, Any]:
    """Use everything that a running task has."""
    picture = ctx.step("fetch", fetch, ctx, payload.url)
    for number in ctx.loop("sizes", [64, 128, 256]):
        ctx.progress(number / 256 * 90, f"size {number}", pixels=number * number)
        ctx.write(number)
    if ctx.attempt <= payload.fails:
        raise ERRORS[payload.how]
    logger(__name__).info("made", picture=picture, password="hidden")
    logging.getLogger("a.library").warning("%s pictures", 3)
    ctx.platform.tasks.submit(ctx.name, {"url": "next"}, options=SubmitOptions(id=f"{ctx.id}:next", delay=60))
    return {"picture": picture, "attempt": ctx.attempt}


def fetch(ctx: Context, url: str) -> tuple[str, int]:
    """The work of a step."""
    return url, ctx.attempt


Declare = Callable[..., PlatformTask]


@pytest.fixture
def declare() -> Iterator[Declare]:
    """Declare tasks as a user does; they are forgotten at the end."""
    names: list[str] = []

    def declare_one(work: Callable[..., Any], **options: Any) -> PlatformTask:
        names.append(f"{work.__name__}_of_test_{next(NUMBERS)}")
        return task(queue="documents", name=names[-1], **options)(work)

    yield declare_one
    for name in names:
        registry.remove(name)
        for app in _state._get_active_apps():  # pyright: ignore[reportPrivateUsage]
            app.tasks.pop(name, None)


@pytest.fixture
def thumbnail(declare: Declare) -> PlatformTask:
    """A task that uses everything."""
    return declare(thumbnails, retries=2, delays=(5, 30))


def test_a_task_is_run_to_its_end_and_everything_that_it_did_is_known(thumbnail: PlatformTask) -> None:
    done = run(thumbnail, Thumbnail(url="cat"), id="t-1")

    assert done.state == "completed"
    assert done.result == {"picture": ["cat", 1], "attempt": 1}, "a step's result is as a later attempt reads it"
    assert done.progress[0] == Progress(22, "size 64", {"pixels": 4096})
    assert done.output == [64, 128, 256]
    assert done.steps == {"fetch": ["cat", 1], "sizes": 3}
    assert done.log == ["made", "3 pictures"]
    assert "hidden" not in str(done.record.log)
    (submitted,) = done.submitted
    assert (submitted.task_id, submitted.name, submitted.queue) == ("t-1:next", thumbnail.name, "documents")
    assert (submitted.payload, submitted.options.delay) == ({"url": "next", "fails": 0, "how": "retryable"}, 60)
    assert (done.error, done.waited, len(done.attempts)) == (None, 0, 1)


def test_failures_are_retried_by_the_tasks_own_schedule_without_waiting(thumbnail: PlatformTask) -> None:
    done = run(thumbnail, {"url": "cat", "fails": 2})

    assert (done.state, done.delays, done.waited) == (TaskState.COMPLETED, [5, 30], 35)
    assert done.result == {"picture": ["cat", 1], "attempt": 3}, "the step of the first attempt is not repeated"
    assert [type(attempt.error) for attempt in done.attempts] == [OSError, OSError, type(None)]


@pytest.mark.parametrize(
    ("how", "attempts", "state", "error"),
    [
        ("retryable", 3, TaskState.DEAD_LETTER, "OSError"),
        ("permanent", 1, TaskState.FAILED, "PermanentError"),
        ("bug", 1, TaskState.FAILED, "KeyError"),
        ("limit", 3, TaskState.DEAD_LETTER, "TimeLimitExceeded"),
    ],
)
def test_a_hopeless_task_ends_as_on_the_platform(
    thumbnail: PlatformTask, how: str, attempts: int, state: TaskState, error: str
) -> None:
    done = run(thumbnail, {"url": "cat", "fails": 9, "how": how})

    assert (len(done.attempts), done.state, type(done.error).__name__) == (attempts, state, error)
    assert done.attempts[-1].result.error_type == error
    assert done.result is None


def test_the_first_error_may_be_raised_for_the_debugger(thumbnail: PlatformTask) -> None:
    with pytest.raises(OSError, match="away"):
        run(thumbnail, {"url": "cat", "fails": 1}, reraise=True)


def test_one_attempt_may_be_looked_at_with_what_earlier_ones_have_stored(thumbnail: PlatformTask) -> None:
    done = run(thumbnail, {"url": "cat", "fails": 1}, attempts=1, steps={"fetch": "from before", "sizes": 2})

    assert (done.state, done.delays) == (TaskState.SCHEDULED, [5])
    assert [report.message for report in done.progress] == ["size 256"]
    assert done.steps == {"fetch": "from before", "sizes": 3}


@pytest.mark.parametrize(("cancel_at", "messages"), [(1, []), (2, []), (3, ["size 64"])])
def test_a_cancelled_task_stops_at_its_next_report(
    thumbnail: PlatformTask, cancel_at: int, messages: list[str]
) -> None:
    done = run(thumbnail, {"url": "cat"}, cancel_at=cancel_at)

    assert (done.state, [report.message for report in done.progress]) == (TaskState.CANCELLED, messages)


def test_what_a_submission_refuses_is_refused(thumbnail: PlatformTask, declare: Declare) -> None:
    with pytest.raises(InvalidPayload, match="url"):
        run(thumbnail, {"link": "cat"})

    def submits_what_nobody_knows(ctx: Context, payload: Payload) -> None:
        ctx.platform.tasks.submit("nobody_knows_this", payload)

    odd = declare(submits_what_nobody_knows)
    with pytest.raises(UnknownTaskType):
        run(odd, reraise=True)


def test_a_task_that_runs_alone_is_in_no_batch(declare: Declare) -> None:
    def alone(ctx: Context) -> dict[str, bool]:
        return {"in a batch": ctx.batch is not None}

    assert run(declare(alone)).result == {"in a batch": False}


def test_a_snooze_is_no_attempt_and_endless_ones_are_found(declare: Declare) -> None:
    times = 3

    def nap(ctx: Context, payload: Payload) -> dict[str, int]:
        nonlocal times
        times -= 1
        if times >= 0:
            ctx.snooze(60, "not yet")
        return {"attempt": ctx.attempt}

    def sleep_for_ever(ctx: Context, payload: Payload) -> None:
        ctx.snooze(1)

    done = run(declare(nap))
    assert (done.state, done.result, done.waited) == (TaskState.COMPLETED, {"attempt": 1}, 180)
    with pytest.raises(RuntimeError, match="did not end"):
        run(declare(sleep_for_ever))


def test_the_platforms_other_services_are_those_of_the_test(declare: Declare) -> None:
    def uses_a_service(ctx: Context, payload: Payload) -> dict[str, Any]:
        platform: Any = ctx.platform
        return {"weather": platform.weather.today()}

    sunny = SimpleNamespace(weather=SimpleNamespace(today=lambda: "sunny"))
    forecast = declare(uses_a_service)
    assert run(forecast, platform=sunny).result == {"weather": "sunny"}
    without: LocalRun = run(forecast, settings=TaskSettings(TASK_MAX_RETRIES=0))  # pyright: ignore[reportCallIssue]
    assert "run(task, payload, platform=...)" in str(without.error)


class Adding(Payload):
    """Two numbers."""

    x: int
    y: int = 1
    fails: int = 0


def adding(ctx: Context, payload: Adding) -> dict[str, int]:
    """Fail so many times, then add, and submit itself with the sum while that is small."""
    if ctx.attempt <= payload.fails:
        raise OSError("away")
    total = payload.x + payload.y
    if total < 5:
        ctx.platform.tasks.submit(ctx.name, {"x": total, "y": 1})
    SUMS.append(total)
    return {"sum": total}


SUMS: list[int] = []


def test_apply_does_the_work_with_retries_and_submitted_tasks(declare: Declare) -> None:
    add: Any = declare(adding, retries=2)
    SUMS.clear()

    assert add.apply((2,), {"y": 1, "fails": 2}).get() == {"sum": 3}
    assert SUMS == [5, 4, 3], "each task ran while it was submitted"
    failed = add.apply(kwargs={"x": 1, "fails": 3})
    assert failed.state == "FAILURE"
    with pytest.raises(TaskFailed, match="away"):
        failed.get()
    with pytest.raises(InvalidPayload, match="x"):
        add.apply(kwargs={"y": 1}).get()


def test_tasks_are_eager_in_an_application_that_says_so(declare: Declare) -> None:
    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    add: Any = app.register_task(declare(adding))

    assert add.delay(7, 1).get(timeout=1) == {"sum": 8}
    assert add.apply_async(kwargs={"x": 8}, countdown=3600).get(timeout=1) == {"sum": 9}
    assert (add.s(10, 1) | add.si(11)).apply().get() == {"sum": 12}


MIDNIGHT = datetime(2026, 3, 29, tzinfo=UTC)


def clocked(ctx: Context, payload: Thumbnail) -> dict[str, str]:
    """Return the time of the platform, in the attempt that does not fail."""
    at = clock.now()
    if ctx.attempt <= payload.fails:
        raise OSError(str(at))
    return {"at": clock.now().isoformat()}


def test_the_clock_stands_at_a_time_and_moves_by_the_delays(declare: Declare) -> None:
    done = run(declare(clocked, retries=2, delays=(60, 3600)), {"url": "cat", "fails": 2}, at=MIDNIGHT)

    assert done.result == {"at": "2026-03-29T01:01:00+00:00"}
    assert [str(attempt.started_at.time()) for attempt in done.attempts] == ["00:00:00", "00:01:00", "01:01:00"]
    assert clock.now() > MIDNIGHT + timedelta(days=30), "the clock of the process is as before"


def test_a_clock_of_the_test_is_moved_on_from_task_to_task(declare: Declare) -> None:
    task, mine = declare(clocked), Clock(datetime(2026, 3, 29))  # noqa: DTZ001 - without a zone it is UTC

    mine.move(timedelta(hours=2))
    assert run(task, {"url": "cat"}, at=mine).result == {"at": "2026-03-29T02:00:00+00:00"}
    mine.move_to(MIDNIGHT + timedelta(hours=3))
    assert run(task, {"url": "cat"}, at=mine).result == {"at": "2026-03-29T03:00:00+00:00"}
    with pytest.raises(ValueError, match="forward only, not by -3600 seconds"):
        mine.move_to(MIDNIGHT + timedelta(hours=2))


def test_the_clock_of_a_fixture_is_the_one_that_the_task_reads(laneway_clock: Clock, declare: Declare) -> None:
    task = declare(clocked)
    laneway_clock.move(timedelta(days=365))

    read = datetime.fromisoformat((run(task, {"url": "cat"}).result or {})["at"])

    assert timedelta(0) <= clock.now() - read < timedelta(minutes=5)
    assert read - datetime.now(UTC) > timedelta(days=364)


def test_a_failed_assertion_shows_what_the_task_did(thumbnail: PlatformTask) -> None:
    completed = repr(run(thumbnail, {"url": "cat", "fails": 1}))
    failed = repr(run(thumbnail, {"url": "cat", "fails": 1, "how": "bug"}))

    assert completed.startswith(
        "LocalRun(state='completed', result={'picture': ['cat', 1], 'attempt': 2}, attempts=2, "
    )
    assert "delays=[5.0], progress=[22, 45, 90], steps={'fetch': ['cat', 1], 'sizes': 3}, submitted=[" in completed
    assert failed.startswith("LocalRun(state='failed', result=None, error=KeyError('width'), progress=")


def waiting(ctx: Context) -> dict[str, Any]:
    """Sleep, and wait for two signals."""
    ctx.step("first", ctx.log.info, "first")
    ctx.sleep(3600)
    return {"by": [ctx.wait_for_signal("approve", timeout=60)["by"] for _ in range(2)]}


def test_a_sleep_ends_the_attempt_and_signals_are_those_of_the_test(declare: Declare) -> None:
    done = run(declare(waiting), signals={"approve": [{"by": "Ada"}, {"by": "Bob"}]})

    assert (done.state, done.result) == (TaskState.COMPLETED, {"by": ["Ada", "Bob"]})
    assert (done.delays, done.log, [each.number for each in done.attempts]) == ([3600.0], ["first"], [1, 1])


def test_a_signal_that_is_not_given_does_not_come(declare: Declare) -> None:
    done = run(declare(waiting), signals={"approve": [{"by": "Ada"}]})

    assert (done.state, type(done.error)) == (TaskState.FAILED, WaitTimedOut)
