"""Signals, timers, cancels and retries of workflows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import Conflict, NotFound
from laneway.platform.execution.outcomes import Attempt, Completed, Snoozed, Stopped
from laneway.platform.schemas.task import TaskState
from laneway.platform.schemas.workflow_run import RunState
from laneway.platform.workflows.errors import InvalidInput, InvalidSignal, UnknownSignal, WrongWorkflowState
from laneway.platform.workflows.handlers import Returned, failed
from tests.fixtures.platform import MovableClock
from tests.laneway.platform.workflows.conftest import Desk

APPROVE = {"name": "approve", "kind": "signal", "timeout": 60, "after": ["a"]}
CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})


def test_a_step_waits_for_its_signal_and_goes_on_with_its_data(desk: Desk) -> None:
    desk.start({"name": "a"}, APPROVE, {"name": "b", "after": ["approve"]})
    desk.work()
    assert desk.states()["approve:1"] == "scheduled"
    assert desk.view().waiting_for[0].startswith("approve: the signal 'approve', until 20")

    answer = desk.services.workflows.signal("w-1", "approve", data={"by": "Ada"})
    desk.work()

    assert (answer.created, answer.delivered) == (True, True)
    assert desk.calls[-1].outputs["approve"]["data"] == {"by": "Ada"}
    assert desk.view().state is RunState.COMPLETED
    assert desk.platform.state("w-1:approve:1") == TaskState.CANCELLED, "its timer is of no use any more"


def test_a_signal_that_comes_before_its_step_is_kept_and_the_same_again_changes_nothing(desk: Desk) -> None:
    desk.start({"name": "a"}, APPROVE)
    signal = desk.services.workflows.signal

    first, again = (signal("w-1", "approve", data={"n": 1}) for _ in range(2))
    with pytest.raises(Conflict, match="other data"):
        signal("w-1", "approve", data={"n": 2})
    desk.work()

    assert [(one.created, one.delivered) for one in (first, again)] == [(True, False), (False, False)]
    assert desk.view().output == {"approve": {"data": {"n": 1}, "received_at": desk.rows()[-1].output["received_at"]}}  # pyright: ignore[reportOptionalSubscript]
    late = signal("w-1", "approve", data={"n": 1})
    assert (late.created, late.delivered) == (False, True)
    with pytest.raises(WrongWorkflowState):
        signal("w-1", "approve", data={}, key="further")


def test_a_signal_that_nobody_waits_for_is_refused(desk: Desk) -> None:
    desk.start({"name": "a"}, APPROVE)

    with pytest.raises(UnknownSignal, match="approve"):
        desk.services.workflows.signal("w-1", "reject", data={})
    with pytest.raises(NotFound):
        desk.services.workflows.signal("w-2", "approve", data={})


def test_data_that_is_no_json_or_too_much_is_refused(desk: Desk) -> None:
    desk.start({"name": "a"}, APPROVE)

    for data in ({"n": float("nan")}, {"text": "\ud800"}, {"deep": _nested(100)}, {"deep": _nested(5000)}):
        with pytest.raises(InvalidSignal, match="no JSON"):
            desk.services.workflows.signal("w-1", "approve", data=data)
        with pytest.raises(InvalidInput, match="no JSON"):
            desk.start({"name": "a"}, id="w-2", given=data)
    with pytest.raises(InvalidSignal, match="more than 250000"):
        desk.services.workflows.signal("w-1", "approve", data={"text": "x" * 250_000})
    desk.scripts["a"] = [{"n": float("inf")}]
    desk.work()

    assert (desk.states()["a:1"], desk.view().steps[0].error_type) == ("failed", "ValueError")


def test_each_visit_of_a_step_in_a_loop_takes_a_signal_of_its_own(desk: Desk) -> None:
    desk.scripts["check"] = [failed("once more")]
    desk.start(
        {"name": "a"}, APPROVE, {"name": "check", "after": ["approve"], "on_failed": {"goto": "approve", "at_most": 3}}
    )
    for number in (1, 2):
        desk.services.workflows.signal("w-1", "approve", data={"n": number}, key=str(number))

    desk.work()

    assert [call.outputs["approve"]["data"] for call in desk.calls if call.step == "check"] == [{"n": 1}, {"n": 2}]
    assert desk.view().state is RunState.COMPLETED


@pytest.mark.parametrize(("what", "end"), [("failed", RunState.FAILED), ("ok", RunState.COMPLETED)])
def test_a_signal_that_does_not_come_in_time_ends_the_step_as_it_says(
    desk: Desk, movable_clock: MovableClock, what: str, end: RunState
) -> None:
    desk.start({**APPROVE, "after": [], "timeout": 5, "on_timeout": what})
    attempt = _due(desk)
    early = desk.run(attempt)
    assert isinstance(early, Snoozed) and 0 < early.delay <= 5

    movable_clock.forward(6)

    assert isinstance(desk.run(attempt), Completed)
    assert desk.states() == {"approve:1": what}
    assert desk.view().state is end


def test_a_timer_holds_up_what_comes_after_it(desk: Desk, movable_clock: MovableClock) -> None:
    desk.start({"name": "pause", "kind": "wait", "seconds": 30}, {"name": "a", "after": ["pause"]})
    desk.work()
    assert (desk.states(), desk.ran) == ({"pause:1": "scheduled", "a": "to_come"}, [])
    assert desk.view().waiting_for == ["pause: its due time"]

    attempt = _due(desk)
    early = desk.run(attempt)
    assert isinstance(early, Snoozed) and 0 < early.delay <= 30
    movable_clock.forward(31)

    assert isinstance(desk.run(attempt), Completed)
    desk.work()

    assert (desk.ran, desk.view().state) == (["a"], RunState.COMPLETED)


def test_a_timer_that_is_gone_on_with_begins_anew(desk: Desk) -> None:
    desk.start({"name": "pause", "kind": "wait", "seconds": 30}, {"name": "a", "after": ["pause"]})
    desk.services.workflows.cancel("w-1")
    desk.work()

    desk.services.workflows.retry("w-1")
    desk.work()

    assert (desk.states(), desk.ran) == ({"pause:1": "scheduled", "a": "to_come"}, [])


def test_a_cancelled_run_starts_nothing_more_and_what_waits_is_cancelled(desk: Desk) -> None:
    desk.start(*CHAIN, {"name": "later", "kind": "wait", "seconds": 60})
    desk.step()

    answer = desk.services.workflows.cancel("w-1")
    desk.work()

    assert (answer.state, answer.stopping) == (RunState.CANCELLED, [])
    assert desk.states() == {"a:1": "ok", "later:1": "cancelled", "b:1": "cancelled", "c": "to_come"}
    assert (desk.ran, desk.view().state) == (["a"], RunState.CANCELLED)
    assert {desk.platform.state(f"w-1:{name}:1") for name in ("b", "later")} == {TaskState.CANCELLED}
    assert desk.services.workflows.cancel("w-1").state is RunState.CANCELLED, "a repeat is no error"


def test_a_running_step_is_asked_to_stop_and_what_it_did_all_the_same_is_kept_but_nothing_follows(desk: Desk) -> None:
    desk.start(*CHAIN)
    attempt = desk.begin()
    assert attempt is not None

    def cancelled_meanwhile() -> dict[str, int]:
        assert desk.services.workflows.cancel("w-1").stopping == ["a"]
        assert desk.platform.attempts.asked_to_stop([attempt]) == [True]
        return {"done": 1}

    desk.scripts["a"] = [cancelled_meanwhile]
    desk.platform.end(attempt, desk.run(attempt))
    desk.work()

    assert (desk.states(), desk.view().state) == ({"a:1": "ok", "b": "to_come", "c": "to_come"}, RunState.CANCELLED)
    assert (desk.rows()[0].output, desk.ran) == ({"done": 1}, ["a"])

    assert desk.services.workflows.retry("w-1").task_id == "w-1:b:1", "what was done stays done"
    desk.work()
    assert (desk.ran, desk.view().state) == (["a", "b", "c"], RunState.COMPLETED)


def test_a_run_that_was_cancelled_in_its_last_step_which_was_done_all_the_same_is_completed_by_a_retry(
    desk: Desk,
) -> None:
    desk.start({"name": "a"})
    attempt = desk.begin()
    assert attempt is not None
    desk.scripts["a"] = [lambda: {"state": desk.services.workflows.cancel("w-1").state}]
    desk.platform.end(attempt, desk.run(attempt))
    desk.work()

    answer = desk.services.workflows.retry("w-1")

    assert (answer.task_id, answer.status) == ("w-1:a:1", TaskState.COMPLETED)
    assert (desk.view().state, desk.view().output) == (RunState.COMPLETED, {"a": {"state": "cancelled"}})


def test_a_cancelled_run_goes_on_from_its_asides_first(desk: Desk) -> None:
    desk.start(
        {"name": "other"}, {"name": "qa", "on_failed": {"goto": "fix", "at_most": 1}}, {"name": "fix", "then": "qa"}
    )
    other, first = desk.begin(), desk.begin()
    assert other is not None and first is not None
    desk.scripts["qa"] = [failed("no")]
    desk.platform.end(first, desk.run(first))
    fix = desk.begin()
    assert fix is not None

    def cancelled_meanwhile() -> Returned:
        desk.services.workflows.cancel("w-1")
        return failed("nor that")

    desk.scripts["fix"] = [cancelled_meanwhile]
    desk.platform.end(fix, desk.run(fix))
    desk.platform.end(other, Stopped())
    desk.platform.recorder.catch_up()
    desk.services.workflows.retry("w-1")
    desk.work()

    assert desk.view().state is RunState.COMPLETED
    assert [desk.ran.count(step) for step in ("other", "qa", "fix")] == [1, 2, 2]


def test_a_step_whose_message_outlived_the_cancel_of_its_run_is_not_begun(desk: Desk) -> None:
    desk.start(*CHAIN)
    attempt = desk.begin()
    assert attempt is not None
    desk.services.workflows.cancel("w-1")

    assert isinstance(desk.run(attempt), Stopped)
    assert desk.ran == []


def test_a_cancelled_run_goes_on_from_where_it_was_and_its_tasks_records_go_on(desk: Desk) -> None:
    desk.start(*CHAIN)
    desk.step()
    desk.services.workflows.cancel("w-1")
    desk.work()

    answer = desk.services.workflows.retry("w-1")
    assert (answer.task_id, desk.view().state) == ("w-1:b:1", RunState.RUNNING)
    desk.work()

    assert (desk.ran, desk.view().state) == (["a", "b", "c"], RunState.COMPLETED)
    kinds = [event.kind for event in desk.services.event_stream.events("w-1:b:1")]
    assert "cancel" in kinds and "retried by hand" in kinds


def test_a_failed_run_goes_on_from_its_failed_steps_also_from_one_that_failed_by_value(desk: Desk) -> None:
    desk.scripts = {"left": [ValueError("wrong")], "right": [failed("not good enough")]}
    desk.start(
        {"name": "a"},
        {"name": "left", "after": ["a"]},
        {"name": "right", "after": ["a"]},
        {"name": "join", "after": ["left", "right"]},
    )
    desk.work()
    view = desk.view()
    assert (view.state, view.error) == (RunState.FAILED, "left: wrong; right: not good enough")
    assert {step.step: step.error_type for step in view.steps if step.error} == {"left": "ValueError", "right": "Found"}

    desk.services.workflows.retry("w-1")
    with pytest.raises(WrongWorkflowState, match="goes on"):
        desk.services.workflows.retry("w-1")
    desk.work()

    view = desk.view()
    assert (view.state, view.error, view.metrics["completed"]) == (RunState.COMPLETED, None, 1)
    assert desk.ran.count("a") == 1 and desk.ran.count("left") == desk.ran.count("right") == 2
    with pytest.raises(WrongWorkflowState):
        desk.services.workflows.retry("w-1")


def test_a_retry_that_broke_off_between_its_two_halves_is_finished_by_a_repeat(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.scripts["a"] = [ValueError("wrong")]
    desk.start(*CHAIN)
    desk.work()
    with monkeypatch.context() as patched:
        patched.setattr(desk.services.tasks, "retry", _dies)
        with pytest.raises(KeyboardInterrupt):
            desk.services.workflows.retry("w-1")
    assert desk.view().state is RunState.RUNNING

    desk.services.workflows.retry("w-1")
    desk.work()

    assert desk.view().state is RunState.COMPLETED


@pytest.mark.parametrize("how", ["deleted", "blanked"])
def test_a_run_goes_on_though_the_record_of_a_steps_task_is_no_longer_whole(desk: Desk, how: str) -> None:
    desk.scripts["a"] = [failed("not good enough")]
    desk.start(*CHAIN)
    desk.work()
    if how == "deleted":
        desk.services.tasks.delete("w-1:a:1")
    else:
        with desk.services.database.transaction() as session:
            session.execute(update(TaskRun).where(TaskRun.id == "w-1:a:1").values(payload={}))

    desk.services.workflows.retry("w-1")
    desk.work()

    assert (desk.ran, desk.view().state) == (["a", "a", "b", "c"], RunState.COMPLETED)


def test_a_retry_while_the_broker_is_away_says_so_and_is_sent_when_it_is_back(desk: Desk) -> None:
    desk.scripts["a"] = [failed("not good enough")]
    desk.start({"name": "a"})
    desk.work()
    desk.platform.valkey.stop()

    assert desk.services.workflows.retry("w-1").status == TaskState.ACCEPTED
    assert desk.states() == {"a:1": "accepted"}
    desk.platform.valkey.start()
    desk.platform.maintenance().reconcile()
    assert desk.states() == {"a:1": "pending"}
    desk.work()

    assert (desk.ran, desk.view().state) == (["a", "a"], RunState.COMPLETED)


def test_the_tasks_of_an_earlier_workflow_are_not_taken_for_those_of_a_new_one_with_its_id(desk: Desk) -> None:
    desk.start(*CHAIN)
    desk.work()
    desk.services.retention.clean_up_workflows(before=clock.now() + timedelta(seconds=1))

    with pytest.raises(Conflict, match="'w-1:a:1' is kept"):
        desk.start(*CHAIN)
    for name in "abc":
        desk.services.tasks.delete(f"w-1:{name}:1")
    desk.start(*CHAIN)
    desk.work()

    assert (desk.ran, desk.view().state) == (["a", "b", "c"] * 2, RunState.COMPLETED)


def test_a_step_whose_task_is_deleted_while_it_waits_fails(desk: Desk) -> None:
    desk.start(*CHAIN)

    desk.services.tasks.delete("w-1:a:1")
    desk.work()

    assert (desk.view().state, desk.view().error) == (RunState.FAILED, "a: its task was deleted")


def test_a_task_that_somebody_else_made_for_a_step_does_nothing(desk: Desk) -> None:
    desk.start(*CHAIN)
    desk.services.tasks.submit("run_workflow_step_task", {"run_id": "w-1", "step": "a", "visit": 1}, id="forged")

    desk.work()

    assert (desk.ran, desk.platform.state("forged")) == (["a", "b", "c"], TaskState.FAILED)


def _dies(_: str) -> None:
    raise KeyboardInterrupt


def _nested(times: int) -> object:
    inner: object = 1
    for _ in range(times):
        inner = [inner]
    return inner


def _due(desk: Desk) -> Attempt:
    """Begin a task that is to be begun later: as if its time had come."""
    (message,) = desk.platform.messages("workflows", MessageState.SCHEDULED)
    id = message.stored.message.task_id
    desk.platform.engine.delete("workflows")
    run = desk.platform.row(id)
    run.published_at = None
    desk.platform.broker.publish(run)
    attempt = desk.begin()
    assert attempt is not None
    return attempt
