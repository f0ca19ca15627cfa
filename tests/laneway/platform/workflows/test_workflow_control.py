"""Signals, timers, cancels and retries of workflows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import Conflict, NotFound
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Completed, Snoozed, Stopped
from laneway.platform.workflows.errors import InvalidInput, InvalidSignal, UnknownSignal, WrongWorkflowState
from laneway.platform.workflows.handlers import Returned, failed
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RunState
from tests.fixtures.platform import MovableClock
from tests.laneway.platform.workflows.conftest import WorkflowHarness

APPROVE = {"name": "approve", "kind": "signal", "timeout": 60, "after": ["a"]}
CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})


def test_a_step_waits_for_its_signal_and_outputs_its_data(harness: WorkflowHarness) -> None:
    harness.start({"name": "a"}, APPROVE, {"name": "b", "after": ["approve"]})
    harness.run_all()
    assert harness.states()["approve:1"] == "scheduled"
    assert harness.view().waiting_for[0].startswith("approve: the signal 'approve', until 20")

    answer = harness.services.workflows.signal("w-1", "approve", data={"by": "Ada"})
    harness.run_all()

    assert (answer.created, answer.delivered) == (True, True)
    assert harness.calls[-1].outputs["approve"]["data"] == {"by": "Ada"}
    assert harness.view().state is RunState.COMPLETED
    assert harness.platform.state("w-1:approve:1") == TaskState.CANCELLED, "its timer is of no use any more"


def test_an_early_signal_is_stored_and_a_repeat_changes_nothing(
    harness: WorkflowHarness,
) -> None:
    harness.start({"name": "a"}, APPROVE)
    signal = harness.services.workflows.signal

    first, again = (signal("w-1", "approve", data={"n": 1}) for _ in range(2))
    with pytest.raises(Conflict, match="other data"):
        signal("w-1", "approve", data={"n": 2})
    harness.run_all()

    assert [(one.created, one.delivered) for one in (first, again)] == [(True, False), (False, False)]
    output = harness.rows()[-1].output
    assert output is not None
    assert harness.view().output == {"approve": {"data": {"n": 1}, "received_at": output["received_at"]}}
    late = signal("w-1", "approve", data={"n": 1})
    assert (late.created, late.delivered) == (False, True)
    with pytest.raises(WrongWorkflowState):
        signal("w-1", "approve", data={}, key="further")


def test_a_signal_that_no_step_waits_for_is_refused(harness: WorkflowHarness) -> None:
    harness.start({"name": "a"}, APPROVE)

    with pytest.raises(UnknownSignal, match="approve"):
        harness.services.workflows.signal("w-1", "reject", data={})
    with pytest.raises(NotFound):
        harness.services.workflows.signal("w-2", "approve", data={})


def test_data_that_is_no_json_or_too_large_is_refused(harness: WorkflowHarness) -> None:
    harness.start({"name": "a"}, APPROVE)

    for data in ({"n": float("nan")}, {"text": "\ud800"}, {"deep": _nested(100)}, {"deep": _nested(5000)}):
        with pytest.raises(InvalidSignal, match="no JSON"):
            harness.services.workflows.signal("w-1", "approve", data=data)
        with pytest.raises(InvalidInput, match="no JSON"):
            harness.start({"name": "a"}, id="w-2", input=data)
    with pytest.raises(InvalidSignal, match="more than 250000"):
        harness.services.workflows.signal("w-1", "approve", data={"text": "x" * 250_000})
    harness.scripts["a"] = [{"n": float("inf")}]
    harness.run_all()

    assert (harness.states()["a:1"], harness.view().steps[0].error_type) == ("failed", "ValueError")


def test_each_visit_in_a_loop_takes_one_signal(harness: WorkflowHarness) -> None:
    harness.scripts["check"] = [failed("once more")]
    harness.start(
        {"name": "a"}, APPROVE, {"name": "check", "after": ["approve"], "on_failed": {"goto": "approve", "at_most": 3}}
    )
    for number in (1, 2):
        harness.services.workflows.signal("w-1", "approve", data={"n": number}, key=str(number))

    harness.run_all()

    assert [call.outputs["approve"]["data"] for call in harness.calls if call.step == "check"] == [{"n": 1}, {"n": 2}]
    assert harness.view().state is RunState.COMPLETED


@pytest.mark.parametrize(("what", "end"), [("failed", RunState.FAILED), ("ok", RunState.COMPLETED)])
def test_a_missing_signal_ends_the_step_with_its_on_timeout_outcome(
    harness: WorkflowHarness, movable_clock: MovableClock, what: str, end: RunState
) -> None:
    harness.start({**APPROVE, "after": [], "timeout": 5, "on_timeout": what})
    attempt = _due(harness)
    early = harness.run(attempt)
    assert isinstance(early, Snoozed) and 0 < early.delay <= 5

    movable_clock.forward(6)

    assert isinstance(harness.run(attempt), Completed)
    assert harness.states() == {"approve:1": what}
    assert harness.view().state is end


def test_steps_after_a_timer_wait_for_it(harness: WorkflowHarness, movable_clock: MovableClock) -> None:
    harness.start({"name": "pause", "kind": "wait", "seconds": 30}, {"name": "a", "after": ["pause"]})
    harness.run_all()
    assert (harness.states(), harness.steps_run) == ({"pause:1": "scheduled", "a": "to_come"}, [])
    assert harness.view().waiting_for == ["pause: its due time"]

    attempt = _due(harness)
    early = harness.run(attempt)
    assert isinstance(early, Snoozed) and 0 < early.delay <= 30
    movable_clock.forward(31)

    assert isinstance(harness.run(attempt), Completed)
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a"], RunState.COMPLETED)


def test_a_revived_timer_starts_again(harness: WorkflowHarness) -> None:
    harness.start({"name": "pause", "kind": "wait", "seconds": 30}, {"name": "a", "after": ["pause"]})
    harness.services.workflows.cancel("w-1")
    harness.run_all()

    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert (harness.states(), harness.steps_run) == ({"pause:1": "scheduled", "a": "to_come"}, [])


def test_a_cancelled_run_starts_no_step_and_cancels_waiting_ones(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN, {"name": "later", "kind": "wait", "seconds": 60})
    harness.run_next()

    answer = harness.services.workflows.cancel("w-1")
    harness.run_all()

    assert (answer.state, answer.stopping) == (RunState.CANCELLED, [])
    assert harness.states() == {"a:1": "ok", "later:1": "cancelled", "b:1": "cancelled", "c": "to_come"}
    assert (harness.steps_run, harness.view().state) == (["a"], RunState.CANCELLED)
    assert {harness.platform.state(f"w-1:{name}:1") for name in ("b", "later")} == {TaskState.CANCELLED}
    assert harness.services.workflows.cancel("w-1").state is RunState.CANCELLED, "a repeat is no error"


def test_a_running_step_of_a_cancelled_run_is_asked_to_stop_and_its_result_is_kept(
    harness: WorkflowHarness,
) -> None:
    harness.start(*CHAIN)
    attempt = harness.begin_task()
    assert attempt is not None

    def cancelled_meanwhile() -> dict[str, int]:
        assert harness.services.workflows.cancel("w-1").stopping == ["a"]
        assert harness.platform.attempts.check_cancelled([attempt]) == [AttemptSignal.CANCEL]
        return {"done": 1}

    harness.scripts["a"] = [cancelled_meanwhile]
    harness.platform.end(attempt, harness.run(attempt))
    harness.run_all()

    assert (harness.states(), harness.view().state) == (
        {"a:1": "ok", "b": "to_come", "c": "to_come"},
        RunState.CANCELLED,
    )
    assert (harness.rows()[0].output, harness.steps_run) == ({"done": 1}, ["a"])

    assert harness.services.workflows.retry("w-1").task_id == "w-1:b:1", "what was done stays done"
    harness.run_all()
    assert (harness.steps_run, harness.view().state) == (["a", "b", "c"], RunState.COMPLETED)


def test_a_retry_completes_a_cancelled_run_whose_last_step_succeeded(
    harness: WorkflowHarness,
) -> None:
    harness.start({"name": "a"})
    attempt = harness.begin_task()
    assert attempt is not None
    harness.scripts["a"] = [lambda: {"state": harness.services.workflows.cancel("w-1").state}]
    harness.platform.end(attempt, harness.run(attempt))
    harness.run_all()

    answer = harness.services.workflows.retry("w-1")

    assert (answer.task_id, answer.status) == ("w-1:a:1", TaskState.COMPLETED)
    assert (harness.view().state, harness.view().output) == (RunState.COMPLETED, {"a": {"state": "cancelled"}})


def test_a_retry_of_a_cancelled_run_starts_with_detour_steps(harness: WorkflowHarness) -> None:
    harness.start(
        {"name": "other"}, {"name": "qa", "on_failed": {"goto": "fix", "at_most": 1}}, {"name": "fix", "then": "qa"}
    )
    other, first = harness.begin_task(), harness.begin_task()
    assert other is not None and first is not None
    harness.scripts["qa"] = [failed("no")]
    harness.platform.end(first, harness.run(first))
    fix = harness.begin_task()
    assert fix is not None

    def cancelled_meanwhile() -> Returned:
        harness.services.workflows.cancel("w-1")
        return failed("nor that")

    harness.scripts["fix"] = [cancelled_meanwhile]
    harness.platform.end(fix, harness.run(fix))
    harness.platform.end(other, Stopped())
    harness.platform.recorder.catch_up()
    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED
    assert [harness.steps_run.count(step) for step in ("other", "qa", "fix")] == [1, 2, 2]


def test_a_step_whose_message_outlived_the_cancel_is_not_run(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    attempt = harness.begin_task()
    assert attempt is not None
    harness.services.workflows.cancel("w-1")

    assert isinstance(harness.run(attempt), Stopped)
    assert harness.steps_run == []


def test_a_retry_continues_a_cancelled_run_with_the_same_tasks(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    harness.run_next()
    harness.services.workflows.cancel("w-1")
    harness.run_all()

    answer = harness.services.workflows.retry("w-1")
    assert (answer.task_id, harness.view().state) == ("w-1:b:1", RunState.RUNNING)
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a", "b", "c"], RunState.COMPLETED)
    kinds = [event.kind for event in harness.services.event_stream.events("w-1:b:1")]
    assert "cancel" in kinds and "retried by hand" in kinds


def test_a_retry_continues_a_failed_run_from_its_failed_steps(
    harness: WorkflowHarness,
) -> None:
    harness.scripts = {"left": [ValueError("wrong")], "right": [failed("not good enough")]}
    harness.start(
        {"name": "a"},
        {"name": "left", "after": ["a"]},
        {"name": "right", "after": ["a"]},
        {"name": "join", "after": ["left", "right"]},
    )
    harness.run_all()
    view = harness.view()
    assert (view.state, view.error) == (RunState.FAILED, "left: wrong; right: not good enough")
    assert {step.step: step.error_type for step in view.steps if step.error} == {"left": "ValueError", "right": "Found"}

    harness.services.workflows.retry("w-1")
    with pytest.raises(WrongWorkflowState, match="goes on"):
        harness.services.workflows.retry("w-1")
    harness.run_all()

    view = harness.view()
    assert (view.state, view.error, view.metrics["completed"]) == (RunState.COMPLETED, None, 1)
    assert (
        harness.steps_run.count("a") == 1 and harness.steps_run.count("left") == harness.steps_run.count("right") == 2
    )
    with pytest.raises(WrongWorkflowState):
        harness.services.workflows.retry("w-1")


def test_a_second_retry_finishes_an_interrupted_one(harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.scripts["a"] = [ValueError("wrong")]
    harness.start(*CHAIN)
    harness.run_all()
    with monkeypatch.context() as patched:
        patched.setattr(harness.services.tasks, "retry", _dies)
        with pytest.raises(KeyboardInterrupt):
            harness.services.workflows.retry("w-1")
    assert harness.view().state is RunState.RUNNING

    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED


@pytest.mark.parametrize("how", ["deleted", "erased"])
def test_a_retry_works_when_the_task_of_a_step_was_deleted_or_erased(harness: WorkflowHarness, how: str) -> None:
    harness.scripts["a"] = [failed("not good enough")]
    harness.start(*CHAIN)
    harness.run_all()
    if how == "deleted":
        harness.services.tasks.delete("w-1:a:1")
    else:
        with harness.services.database.transaction() as session:
            session.execute(update(TaskRun).where(TaskRun.id == "w-1:a:1").values(payload={}))

    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a", "a", "b", "c"], RunState.COMPLETED)


def test_a_retry_while_the_broker_is_away_is_sent_when_it_is_back(harness: WorkflowHarness) -> None:
    harness.scripts["a"] = [failed("not good enough")]
    harness.start({"name": "a"})
    harness.run_all()
    harness.platform.valkey.stop()

    assert harness.services.workflows.retry("w-1").status == TaskState.ACCEPTED
    assert harness.states() == {"a:1": "accepted"}
    harness.platform.valkey.start()
    harness.platform.maintenance().reconcile()
    assert harness.states() == {"a:1": "pending"}
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a", "a"], RunState.COMPLETED)


def test_a_new_workflow_does_not_reuse_the_tasks_of_an_earlier_one_with_its_id(
    harness: WorkflowHarness,
) -> None:
    harness.start(*CHAIN)
    harness.run_all()
    harness.services.retention.clean_up_workflows(before=clock.now() + timedelta(seconds=1))

    with pytest.raises(Conflict, match="'w-1:a:1' is kept"):
        harness.start(*CHAIN)
    for name in "abc":
        harness.services.tasks.delete(f"w-1:{name}:1")
    harness.start(*CHAIN)
    harness.run_all()

    assert (harness.steps_run, harness.view().state) == (["a", "b", "c"] * 2, RunState.COMPLETED)


def test_a_step_whose_task_is_deleted_while_it_waits_fails(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)

    harness.services.tasks.delete("w-1:a:1")
    harness.run_all()

    assert (harness.view().state, harness.view().error) == (RunState.FAILED, "a: its task was deleted")


def test_a_forged_task_of_a_step_does_nothing(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)
    harness.services.tasks.submit("run_workflow_step_task", {"run_id": "w-1", "step": "a", "visit": 1}, id="forged")

    harness.run_all()

    assert (harness.steps_run, harness.platform.state("forged")) == (["a", "b", "c"], TaskState.FAILED)


def _dies(_: str) -> None:
    raise KeyboardInterrupt


def _nested(times: int) -> object:
    inner: object = 1
    for _ in range(times):
        inner = [inner]
    return inner


def _due(harness: WorkflowHarness) -> Attempt:
    """Begin a task that is to be begun later: as if its time had come."""
    (message,) = harness.platform.messages("workflows", MessageState.SCHEDULED)
    id = message.stored.message.task_id
    harness.platform.engine.delete("workflows")
    run = harness.platform.row(id)
    run.published_at = None
    harness.platform.broker.publish(run)
    attempt = harness.begin_task()
    assert attempt is not None
    return attempt
