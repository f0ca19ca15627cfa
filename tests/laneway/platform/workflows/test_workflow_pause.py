"""A paused run starts no step; a resumed one goes on where it was."""

from __future__ import annotations

import pytest

from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.errors import NotFound
from laneway.platform.execution.outcomes import Completed, Snoozed
from laneway.platform.workflows.errors import WrongWorkflowState
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RunState
from tests.fixtures.platform import MovableClock
from tests.fixtures.waiting import wait_until
from tests.laneway.platform.workflows.conftest import WorkflowHarness

CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})
ADA = Caller(kind="person", name="ada@example.com", scopes=frozenset())


def pause(harness: WorkflowHarness, id: str = "w-1") -> None:
    with acting_as(ADA):
        assert harness.services.workflows.pauses.pause(id).changed


def test_running_steps_end_and_no_further_step_starts(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    attempt = harness.begin_task()
    assert attempt is not None
    harness.scripts["a"] = [lambda: pause(harness) or {"done": True}]
    outcome = harness.run(attempt)
    assert isinstance(outcome, Completed)
    harness.platform.end(attempt, outcome)
    harness.run_all()

    view = harness.view()
    assert (harness.steps_run, harness.states()) == (["a"], {"a:1": "ok", "b:1": "scheduled", "c": "to_come"})
    assert (view.state, view.paused_by) == (RunState.RUNNING, "ada@example.com")
    assert view.waiting_for[0].startswith("b: its workflow to be resumed: ada@example.com paused it at 20")

    assert harness.services.workflows.pauses.resume("w-1").changed
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a", "b", "c"], RunState.COMPLETED)
    assert harness.platform.row("w-1:b:1").attempts == 1, "the attempt that found the run paused does not count"


def test_a_timer_that_ends_during_the_pause_fires_after_it(
    harness: WorkflowHarness, movable_clock: MovableClock
) -> None:
    harness.start({"name": "timer", "kind": "wait", "seconds": 0}, {"name": "a", "after": ["timer"]})
    pause(harness)
    movable_clock.forward(60)
    harness.run_all()
    assert harness.states()["timer:1"] == "scheduled"

    harness.services.workflows.pauses.resume("w-1")
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a"], RunState.COMPLETED)


def test_a_signal_during_the_pause_is_taken_and_its_wait_does_not_time_out(harness: WorkflowHarness) -> None:
    wait = {"name": "approve", "kind": "signal", "timeout": 30}
    harness.start(wait, {"name": "other", "kind": "signal", "timeout": 0.05}, {"name": "a", "after": ["approve"]})
    pause(harness)
    harness.services.workflows.signal("w-1", "approve", data={"by": "Ada"})
    wait_until(lambda: harness.run_all() + harness.platform.row("w-1:other:1").attempts_before > 1, seconds=10)
    assert (harness.steps_run, harness.states()["approve:1"], harness.states()["other:1"]) == ([], "ok", "scheduled")

    harness.services.workflows.pauses.resume("w-1")
    harness.run_all()

    assert (harness.steps_run, harness.states()["other:1"]) == (["a"], "failed")


def test_a_step_that_saw_the_pause_and_has_not_ended_yet_is_woken_later(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    pause(harness)
    attempt = harness.begin_task()
    assert attempt is not None
    seen = harness.run(attempt)
    assert isinstance(seen, Snoozed) and seen.delay > 60
    harness.services.workflows.pauses.resume("w-1")
    woke = harness.run_next()
    assert isinstance(woke, Snoozed) and woke.delay < 1, "the task that wakes finds it held by its worker"
    harness.platform.end(attempt, seen)

    wait_until(lambda: harness.run_all() and harness.view().state is RunState.COMPLETED, seconds=10)

    assert harness.steps_run == ["a", "b", "c"]


def test_a_cancel_ends_the_pause(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    pause(harness)
    harness.services.workflows.cancel("w-1")
    assert (harness.view().state, harness.view().paused_at) == (RunState.CANCELLED, None)

    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED
    assert harness.platform.state("w-1:a:1") == TaskState.COMPLETED


def test_a_repeat_changes_nothing_and_a_run_that_is_over_is_refused(harness: WorkflowHarness) -> None:
    pauses = harness.services.workflows.pauses
    harness.start({"name": "a"})
    pause(harness)
    assert (pauses.pause("w-1").changed, pauses.pause("w-1").paused_by) == (False, "ada@example.com")
    assert [pauses.resume("w-1").changed for _ in range(2)] == [True, False]
    harness.run_all()

    for action in (pauses.pause, pauses.resume):
        with pytest.raises(WrongWorkflowState, match="is completed"):
            action("w-1")
        with pytest.raises(NotFound):
            action("w-2")
    entries = harness.services.audit_log.page(AuditLogFilter()).entries[::-1]
    assert next((entry.action, entry.caller) for entry in entries) == ("workflow.pause", "ada@example.com")
    assert [entry.action for entry in entries] == ["workflow.pause", "workflow.resume"]
