"""Tasks that sleep, or wait for a signal, another task or a workflow, give their slot away and go on later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.services.container import Services
from laneway.engine import MessageState
from laneway.platform.db.queries import task_waits
from laneway.platform.errors import PermanentError, TaskSnoozed, UnknownTask
from laneway.platform.execution.context import Context
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Snoozed
from laneway.platform.registry import registry
from laneway.platform.wait_errors import AwaitedTaskFailed, WaitTimedOut
from laneway.schemas.payload import Wake
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

Work = Callable[[Context], Any]
QUEUE = "maintenance"


@dataclass
class Waiting:
    """Runs one task, whose function is that of the test, and the tasks that wake it."""

    services: Services
    platform: Platform
    calls: list[str] = field(default_factory=list[str])

    def attempt(self, work: Work) -> Outcome | None:
        """Run the next attempt in its queue; None: nothing is due."""
        delivery = self.platform.fetch(QUEUE)
        attempt = self.platform.begun(delivery) if delivery else None
        if not isinstance(attempt, Attempt):
            return None
        attempt.max_retries = 0
        try:
            outcome: Outcome = Completed({"returned": work(Context(attempt, self.services))})
        except TaskSnoozed as snooze:
            outcome = Snoozed(snooze.delay, snooze.reason)
        except Exception as error:  # noqa: BLE001
            outcome = Raised(error)
        self.platform.end(attempt, outcome)
        return outcome

    def wake(self) -> int:
        """Run the tasks that wake others; return how many tasks they woke."""
        self.services.recorder.catch_up()
        self.services.tasks.outbox.relay()
        woken = 0
        while (delivery := self.platform.fetch("workflows")) is not None:
            attempt = self.platform.begun(delivery)
            assert isinstance(attempt, Attempt) and attempt.name == "wake_waiting_tasks"
            woken += self.services.tasks.waker.wake(Wake.model_validate(attempt.payload))
            self.platform.end(attempt)
        return woken

    def result(self, id: str) -> Any:
        """What the function returned."""
        return (self.platform.row(id).result or {}).get("returned")

    def once(self, name: str) -> str:
        """Note a call, and return its name."""
        self.calls.append(name)
        return name


@pytest.fixture
def waiting(services: Services, platform: Platform) -> Waiting:
    return Waiting(services, platform)


def test_a_sleeping_task_holds_no_slot_and_does_not_repeat_its_steps(waiting: Waiting) -> None:
    def work(ctx: Context) -> list[str]:
        first = ctx.step("first", waiting.once, "first")
        ctx.sleep(0.2)
        return [first, ctx.step("second", waiting.once, "second")]

    id = waiting.platform.chore()
    asleep = waiting.attempt(work)
    assert isinstance(asleep, Snoozed) and 0 < asleep.delay <= 0.2
    assert waiting.platform.messages(QUEUE, MessageState.LEASED) == []
    assert waiting.services.tasks.status(id).waiting_for == "the end of its sleep"

    wait_until(lambda: waiting.attempt(work), seconds=10)

    assert (waiting.result(id), waiting.calls) == (["first", "second"], ["first", "second"])
    assert waiting.platform.row(id).attempts == 1, "the attempt that slept does not count"


def test_a_signal_wakes_the_task_at_once(waiting: Waiting) -> None:
    def work(ctx: Context) -> Any:
        return ctx.wait_for_signal("approve", timeout=3600)

    id = waiting.platform.chore()
    assert isinstance(waiting.attempt(work), Snoozed)
    (cause, *_) = waiting.services.tasks.why(id).causes
    assert (cause.kind, cause.text) == ("awaited", "the signal 'approve'")
    assert cause.until is not None

    sent = waiting.services.tasks.signal(id, "approve", {"by": "Ada"})

    assert (sent.created, sent.awaited, waiting.wake()) == (True, True, 1)
    assert waiting.services.tasks.status(id).status is TaskState.PENDING
    waiting.attempt(work)
    assert waiting.result(id) == {"by": "Ada"}
    with waiting.services.database.reading() as session:
        assert not task_waits.of_task(session, id)


def test_each_wait_takes_one_signal_also_when_they_come_early(waiting: Waiting) -> None:
    id = waiting.platform.chore()
    for number in (1, 2):
        assert not waiting.services.tasks.signal(id, "next", {"n": number}, key=str(number)).awaited

    waiting.attempt(lambda ctx: [ctx.wait_for_signal("next")["n"] for _ in range(2)])

    assert waiting.result(id) == [1, 2]


def test_a_signal_between_the_look_and_the_end_of_the_attempt_is_not_lost(waiting: Waiting) -> None:
    def work(ctx: Context) -> Any:
        try:
            return ctx.wait_for_signal("go")
        except TaskSnoozed:
            waiting.services.tasks.signal(ctx.id, "go", {"n": 1})
            with pytest.raises(TaskSnoozed, match="a worker holds"):
                waiting.wake()
            raise

    id = waiting.platform.chore()
    assert isinstance(waiting.attempt(work), Snoozed)
    (wake,) = waiting.platform.messages("workflows", MessageState.LEASED)
    payload = waiting.platform.row(wake.stored.message.task_id).payload
    assert waiting.services.tasks.waker.wake(Wake.model_validate(payload)) == 1
    waiting.attempt(work)
    assert waiting.result(id) == {"n": 1}


def test_a_timeout_is_an_error_that_the_task_may_catch(waiting: Waiting) -> None:
    def work(ctx: Context) -> Any:
        try:
            ctx.wait_for_signal("approve", timeout=0.1)
        except WaitTimedOut as error:
            ctx.sleep(0.1)
            return str(error)

    id = waiting.platform.chore()
    waiting.attempt(work)
    wait_until(lambda: waiting.attempt(work), seconds=10)
    late = waiting.services.tasks.signal(id, "approve", {})
    assert not late.awaited, "the wait is over"
    wait_until(lambda: waiting.attempt(work), seconds=10)

    assert waiting.result(id) == "The task waited 0.1 s for the signal 'approve', and it did not come."


def test_after_a_retry_by_hand_a_wait_that_timed_out_begins_anew(waiting: Waiting) -> None:
    def work(ctx: Context) -> Any:
        return ctx.wait_for_signal("approve", timeout=0)

    id = waiting.platform.chore()
    assert isinstance(failed := waiting.attempt(work), Raised) and isinstance(failed.error, WaitTimedOut)
    assert waiting.platform.state(id) == TaskState.FAILED
    waiting.services.tasks.retry(id)
    assert isinstance(waiting.attempt(lambda ctx: ctx.wait_for_signal("approve", timeout=60)), Snoozed)


def test_a_task_waits_for_another_one(waiting: Waiting) -> None:
    other = waiting.platform.message()
    id = waiting.platform.chore()

    def work(ctx: Context) -> Any:
        return ctx.wait_for_task(other)

    assert isinstance(waiting.attempt(work), Snoozed)
    assert waiting.services.tasks.status(id).waiting_for == f"the task {other}"
    assert waiting.wake() == 0
    waiting.platform.work(outcome=Completed({"answer": 42}))

    assert waiting.wake() == 1
    waiting.attempt(work)
    assert waiting.result(id) == {"answer": 42}


def test_a_task_that_is_over_is_not_waited_for_and_a_failed_one_is_an_error(waiting: Waiting) -> None:
    done, failed = waiting.platform.message("c-1"), waiting.platform.message("c-2")
    waiting.platform.work(outcome=Completed({}))
    waiting.platform.work(outcome=Raised(ValueError("wrong")))
    waiting.platform.chore()
    waiting.platform.chore()

    assert isinstance(waiting.attempt(lambda ctx: ctx.wait_for_task(done)), Completed)
    raised = waiting.attempt(lambda ctx: ctx.wait_for_task(failed))

    assert isinstance(raised, Raised) and isinstance(raised.error, AwaitedTaskFailed)
    assert str(raised.error) == f"{failed!r}, for which the task waited, is failed: wrong"


def test_a_task_submits_another_one_once_and_waits_for_it(waiting: Waiting) -> None:
    def work(ctx: Context) -> Any:
        payload = {"conversation_id": "c-1", "message": "Hello"}
        return ctx.submit_and_wait("process_conversation_message_task", payload)

    id = waiting.platform.chore()
    assert isinstance(waiting.attempt(work), Snoozed)
    (child,) = waiting.platform.sent()
    waiting.platform.work(outcome=Completed({"n": 1}))
    assert waiting.wake() == 1
    waiting.attempt(work)
    assert (waiting.result(id), child) == ({"n": 1}, f"{id}:submitted-1")
    assert len([run for run in waiting.platform.rows() if run.queue == "conversations"]) == 1


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_waiting_task_can_be_cancelled(waiting: Waiting, how: str) -> None:
    id = waiting.platform.chore()
    waiting.attempt(lambda ctx: ctx.wait_for_signal("never", timeout=60 if how == "timeout" else None))
    assert waiting.services.tasks.cancel(id).cancelled
    assert waiting.platform.state(id) == TaskState.CANCELLED


def test_waits_that_can_never_end_are_refused(waiting: Waiting) -> None:
    first = waiting.platform.message("c-1")
    behind = waiting.platform.message("c-1")
    attempt = waiting.platform.start()
    assert attempt.task_id == first
    ctx = Context(attempt, waiting.services)

    with pytest.raises(PermanentError, match="cannot wait for itself"):
        ctx.wait_for_task(first)
    with pytest.raises(PermanentError, match="the same ordering key"):
        ctx.wait_for_task(behind)
    with pytest.raises(UnknownTask):
        ctx.wait_for_task("nobody")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            ctx.sleep(bad)
    with pytest.raises(TypeError, match="either seconds or until"):
        ctx.sleep()
    assert registry["wake_waiting_tasks"].internal
