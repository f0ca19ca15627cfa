"""What is told twice, comes too late, or happens at the same moment: nothing is lost, and nothing is done twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.errors import Conflict, QueueFull, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import Completed, Outcome, Raised, Stopped
from laneway.platform.payload import EndedTask
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from laneway.platform.schemas.workflow_run import RunState, WorkflowHandle
from laneway.platform.workflows.handlers import failed
from laneway.platform.workflows.runs import Launch
from tests.fixtures.platform import Platform
from tests.laneway.platform.workflows.conftest import Desk

CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]})
PIPELINE = (
    {"name": "dev"},
    {"name": "qa", "after": ["dev"], "on_failed": {"goto": "fix", "at_most": 1}},
    {"name": "fix", "then": "qa"},
)


@pytest.mark.parametrize("branches", [2, 6])
def test_branches_that_end_at_the_same_moment_start_the_join_once(desk: Desk, branches: int) -> None:
    names = [f"s{number}" for number in range(branches)]
    desk.start(*({"name": name} for name in names), {"name": "join", "after": names})
    attempts = [desk.begin() for _ in names]
    barrier = Barrier(branches)

    def together() -> dict[str, Any]:
        barrier.wait(10)
        return {}

    desk.scripts = {name: [together] for name in names}
    with ThreadPoolExecutor(branches) as pool:
        outcomes = list(pool.map(desk.run, [attempt for attempt in attempts if attempt]))
    assert [type(outcome) for outcome in outcomes] == [Completed] * branches
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        assert attempt is not None
        desk.platform.end(attempt, outcome)
    desk.work()

    assert desk.ran.count("join") == 1
    assert desk.view().state is RunState.COMPLETED


def test_a_run_is_over_before_its_last_task_and_is_shown_with_what_is_known_of_that_task(desk: Desk) -> None:
    desk.start({"name": "a"})
    attempt = desk.begin()
    assert attempt is not None

    desk.run(attempt)

    run = desk.view()
    assert (run.state, run.steps[0].attempts, run.steps[0].state) == (RunState.COMPLETED, 1, "ok")
    assert run.steps[0].started_at is not None


@pytest.mark.parametrize("said", [{"fine": True}, failed("no")], ids=["ok", "failed by value"])
def test_a_task_that_is_delivered_again_after_its_step_was_settled_changes_nothing(desk: Desk, said: Any) -> None:
    desk.scripts["a"] = [said]
    desk.start(*CHAIN)
    attempt = desk.begin()
    assert attempt is not None

    first, again = desk.run(attempt), desk.run(attempt)  # it died before its outcome was concluded

    assert isinstance(first, Completed) and first == again
    assert desk.ran == ["a"]
    assert [run.id for run in desk.platform.rows()] == ["w-1:a:1", "w-1:b:1"][: 2 if said == {"fine": True} else 1]


@pytest.mark.parametrize(
    ("outcome", "kind", "error"),
    [
        (Raised(WorkerLost("w-9")), "WorkerLost", "The worker w-9 died or stalled while it ran the task."),
        (Raised(TimeLimitExceeded(3)), "TimeLimitExceeded", "The task ran longer than its limit of 3 s."),
        (Raised(OSError("away")), "OSError", "away"),
        (Stopped("killed"), "cancelled", "its task was cancelled"),
    ],
    ids=["worker lost", "hard time limit", "retries used up", "stopped by an operator"],
)
def test_a_step_whose_task_ended_without_a_word_is_settled_as_failed(
    desk: Desk, outcome: Outcome, kind: str, error: str
) -> None:
    desk.start(*CHAIN)
    attempt = desk.begin()
    assert attempt is not None
    attempt.max_retries = 0
    desk.platform.end(attempt, outcome)

    desk.work()

    step = desk.view().steps[0]
    assert (step.state, step.error_type, step.error) == ("failed", kind, error)
    assert (desk.view().state, desk.states()["b:1"]) == (RunState.FAILED, "skipped")


def test_a_waiting_steps_task_that_an_operator_cancels_fails_the_step(desk: Desk) -> None:
    desk.start(*CHAIN)

    desk.services.tasks.cancel("w-1:a:1")
    desk.work()

    assert (desk.view().state, desk.view().error) == (RunState.FAILED, "a: its task was cancelled")


def test_an_end_that_is_told_late_does_not_touch_what_was_sent_again_since(desk: Desk) -> None:
    desk.scripts["a"] = [ValueError("wrong")]
    desk.start(*CHAIN)
    desk.step()
    desk.services.recorder.catch_up()
    number = desk.platform.row("w-1:a:1").attempts

    desk.services.tasks.retry("w-1:a:1")
    late = desk.services.workflow_steps.settle_ended(EndedTask(task_id="w-1:a:1", run=number))
    desk.work()

    assert late == {"settled": False}
    assert (desk.ran, desk.view().state) == (["a", "a", "b"], RunState.COMPLETED)
    assert desk.services.workflow_steps.settle_ended(EndedTask(task_id="w-1:a:1", run=number)) == {"settled": False}
    assert desk.services.workflow_steps.settle_ended(EndedTask(task_id="nobody", run=1)) == {"settled": False}


def test_a_retry_by_hand_of_a_visit_that_counts_no_more_or_was_ok_changes_nothing(desk: Desk) -> None:
    desk.scripts["qa"] = [failed("no")]
    desk.start(*PIPELINE)
    desk.work()
    before = desk.states()
    assert before == {"dev:1": "ok", "qa:1": "failed", "fix:1": "ok", "qa:2": "ok"}

    for id in ("w-1:qa:1", "w-1:dev:1"):
        desk.services.tasks.retry(id)
    desk.work()

    assert (desk.states(), desk.ran) == (before, ["dev", "qa", "fix", "qa"])
    assert {desk.platform.state(id) for id in ("w-1:qa:1", "w-1:dev:1")} == {TaskState.COMPLETED}


def test_the_same_start_at_the_same_moment_is_one_run(desk: Desk) -> None:
    inputs = {"tasks_per_week": 1, "time_per_task_minutes": 1, "hourly_wage": 1, "automation_percent": 1}
    barrier = Barrier(4)

    def start(_: int) -> WorkflowHandle:
        barrier.wait(10)
        return desk.services.workflows.start("savings_assessment", inputs, launch=Launch(id="once"))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(start, range(4)))

    assert sorted(answer.created for answer in answers) == [False, False, False, True]
    assert {answer.task_id for answer in answers} == {"once:validate:1"}
    assert [run.id for run in desk.platform.rows()] == ["once:validate:1"]


def test_a_start_whose_task_cannot_be_accepted_leaves_nothing_behind(desk: Desk) -> None:
    desk.platform.chore(id="w-1:a:1")  # somebody has had this id

    with pytest.raises(Conflict):
        desk.start(*CHAIN)

    with desk.services.database.reading() as session:
        assert repository.find(session, "w-1") is None
    assert len(desk.platform.rows()) == 1


def test_a_full_queue_refuses_a_start_and_never_what_follows_in_a_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start({"name": "a"}, *({"name": f"b{number}", "after": ["a"]} for number in range(3)))
    limited = desk.services.settings.tasks.model_copy(update={"max_queue_size": 1})
    monkeypatch.setattr(desk.services.tasks.outbox, "_settings", limited)

    with pytest.raises(QueueFull):
        desk.start({"name": "a"}, id="w-2")
    desk.work()

    assert desk.view().state is RunState.COMPLETED
    with desk.services.database.reading() as session:
        assert repository.find(session, "w-2") is None


def test_what_was_accepted_while_the_broker_was_away_is_sent_once_and_in_order_when_it_is_back(
    desk: Desk, platform: Platform
) -> None:
    platform.valkey.kill()
    for number in range(3):
        desk.start(*CHAIN, id=f"w-{number}")
    assert {run.state for run in _stored(desk)} == {TaskState.ACCEPTED}
    assert desk.services.workflow_views.view("w-0").steps[0].state == "accepted"
    platform.valkey.start()

    desk.work()

    assert desk.ran[:3] == ["a", "a", "a"] and [call.run_id for call in desk.calls][:3] == ["w-0", "w-1", "w-2"]
    assert all(desk.view(f"w-{number}").state is RunState.COMPLETED for number in range(3))
    assert len(desk.calls) == 6


def test_steps_go_to_the_queues_that_they_name_with_retries_and_limits_of_their_own(desk: Desk) -> None:
    desk.start({"name": "a", "queue": "analytics", "max_retries": 7, "timeout": 2.5})

    assert [peeked.stored.message.task_id for peeked in desk.platform.messages("analytics")] == ["w-1:a:1"]
    row = desk.platform.row("w-1:a:1")
    assert (row.queue, row.max_retries, row.options["time_limit"]) == ("analytics", 7, 2.5)
    assert registry["run_workflow_step_task"].on_failure == "settle_workflow_step_task"


def _stored(desk: Desk) -> list[TaskRun]:
    return [run for run in desk.platform.rows() if run.name == "run_workflow_step_task"]
