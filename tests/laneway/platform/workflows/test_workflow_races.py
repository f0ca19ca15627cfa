"""Repeats, late events and concurrent events of workflows: nothing is lost, and nothing is done twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.errors import Conflict, QueueFull, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.outcomes import Completed, Outcome, Raised, Stopped
from laneway.platform.registry import registry
from laneway.platform.workflows.handlers import failed
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RunState, WorkflowHandle
from tests.fixtures.platform import Platform
from tests.laneway.platform.workflows.conftest import WorkflowHarness

CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]})
PIPELINE = (
    {"name": "dev"},
    {"name": "qa", "after": ["dev"], "on_failed": {"goto": "fix", "at_most": 1}},
    {"name": "fix", "then": "qa"},
)


@pytest.mark.parametrize("branches", [2, 6])
def test_branches_that_end_at_the_same_moment_start_the_join_once(harness: WorkflowHarness, branches: int) -> None:
    names = [f"s{number}" for number in range(branches)]
    harness.start(*({"name": name} for name in names), {"name": "join", "after": names})
    attempts = [harness.begin_task() for _ in names]
    barrier = Barrier(branches)

    def together() -> dict[str, Any]:
        barrier.wait(10)
        return {}

    harness.scripts = {name: [together] for name in names}
    with ThreadPoolExecutor(branches) as pool:
        outcomes = list(pool.map(harness.run, [attempt for attempt in attempts if attempt]))
    assert [type(outcome) for outcome in outcomes] == [Completed] * branches
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        assert attempt is not None
        harness.platform.end(attempt, outcome)
    harness.run_all()

    assert harness.steps_run.count("join") == 1
    assert harness.view().state is RunState.COMPLETED


def test_a_run_that_ends_before_its_last_task_is_shown_with_that_task(
    harness: WorkflowHarness,
) -> None:
    harness.start({"name": "a"})
    attempt = harness.begin_task()
    assert attempt is not None

    harness.run(attempt)

    run = harness.view()
    assert (run.state, run.steps[0].attempts, run.steps[0].state) == (RunState.COMPLETED, 1, "ok")
    assert run.steps[0].started_at is not None


@pytest.mark.parametrize("returned", [{"fine": True}, failed("no")], ids=["ok", "failed by value"])
def test_a_task_delivered_again_after_its_step_ended_changes_nothing(harness: WorkflowHarness, returned: Any) -> None:
    harness.scripts["a"] = [returned]
    harness.start(*CHAIN)
    attempt = harness.begin_task()
    assert attempt is not None

    first, again = harness.run(attempt), harness.run(attempt)  # it died before its outcome was concluded

    assert isinstance(first, Completed) and first == again
    assert harness.steps_run == ["a"]
    assert [run.id for run in harness.platform.rows()] == ["w-1:a:1", "w-1:b:1"][
        : 2 if returned == {"fine": True} else 1
    ]


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
def test_a_step_whose_task_ended_without_ending_it_fails(
    harness: WorkflowHarness, outcome: Outcome, kind: str, error: str
) -> None:
    harness.start(*CHAIN)
    attempt = harness.begin_task()
    assert attempt is not None
    attempt.max_retries = 0
    harness.platform.end(attempt, outcome)

    harness.run_all()

    step = harness.view().steps[0]
    assert (step.state, step.error_type, step.error) == ("failed", kind, error)
    assert (harness.view().state, harness.states()["b:1"]) == (RunState.FAILED, "skipped")


def test_cancelling_the_task_of_a_waiting_step_fails_the_step(harness: WorkflowHarness) -> None:
    harness.start(*CHAIN)

    harness.services.tasks.cancel("w-1:a:1")
    harness.run_all()

    assert (harness.view().state, harness.view().error) == (RunState.FAILED, "a: its task was cancelled")


def test_a_late_end_does_not_change_a_step_that_was_retried(harness: WorkflowHarness) -> None:
    harness.scripts["a"] = [ValueError("wrong")]
    harness.start(*CHAIN)
    harness.run_next()
    harness.services.recorder.catch_up()
    number = harness.platform.row("w-1:a:1").attempts

    harness.services.tasks.retry("w-1:a:1")
    late = harness.services.workflow_steps.settle_ended_task(EndedTask(task_id="w-1:a:1", run=number))
    harness.run_all()

    assert late == {"settled": False}
    assert (harness.steps_run, harness.view().state) == (["a", "a", "b"], RunState.COMPLETED)
    assert harness.services.workflow_steps.settle_ended_task(EndedTask(task_id="w-1:a:1", run=number)) == {
        "settled": False
    }
    assert harness.services.workflow_steps.settle_ended_task(EndedTask(task_id="nobody", run=1)) == {"settled": False}


def test_retrying_the_task_of_a_superseded_or_successful_visit_changes_nothing(harness: WorkflowHarness) -> None:
    harness.scripts["qa"] = [failed("no")]
    harness.start(*PIPELINE)
    harness.run_all()
    before = harness.states()
    assert before == {"dev:1": "ok", "qa:1": "failed", "fix:1": "ok", "qa:2": "ok"}

    for id in ("w-1:qa:1", "w-1:dev:1"):
        harness.services.tasks.retry(id)
    harness.run_all()

    assert (harness.states(), harness.steps_run) == (before, ["dev", "qa", "fix", "qa"])
    assert {harness.platform.state(id) for id in ("w-1:qa:1", "w-1:dev:1")} == {TaskState.COMPLETED}


def test_concurrent_starts_with_one_id_are_one_run(harness: WorkflowHarness) -> None:
    inputs = {"tasks_per_week": 1, "time_per_task_minutes": 1, "hourly_wage": 1, "automation_percent": 1}
    barrier = Barrier(4)

    def start(_: int) -> WorkflowHandle:
        barrier.wait(10)
        return harness.services.workflows.start("savings_assessment", inputs, options=StartOptions(id="once"))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(start, range(4)))

    assert sorted(answer.created for answer in answers) == [False, False, False, True]
    assert {answer.task_id for answer in answers} == {"once:validate:1"}
    assert [run.id for run in harness.platform.rows()] == ["once:validate:1"]


def test_a_start_whose_task_is_refused_stores_nothing(harness: WorkflowHarness) -> None:
    harness.platform.chore(id="w-1:a:1")  # somebody has had this id

    with pytest.raises(Conflict):
        harness.start(*CHAIN)

    with harness.services.database.reading() as session:
        assert repository.find(session, "w-1") is None
    assert len(harness.platform.rows()) == 1


def test_a_full_queue_refuses_new_runs_but_not_the_steps_of_accepted_ones(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.start({"name": "a"}, *({"name": f"b{number}", "after": ["a"]} for number in range(3)))
    limited = harness.services.settings.tasks.model_copy(update={"max_queue_size": 1})
    monkeypatch.setattr(harness.services.tasks.outbox, "_settings", limited)

    with pytest.raises(QueueFull):
        harness.start({"name": "a"}, id="w-2")
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED
    with harness.services.database.reading() as session:
        assert repository.find(session, "w-2") is None


def test_runs_accepted_while_the_broker_was_away_are_sent_once_and_in_order(
    harness: WorkflowHarness, platform: Platform
) -> None:
    platform.valkey.kill()
    for number in range(3):
        harness.start(*CHAIN, id=f"w-{number}")
    assert {run.state for run in _stored(harness)} == {TaskState.ACCEPTED}
    assert harness.services.workflow_views.view("w-0").steps[0].state == "accepted"
    platform.valkey.start()

    harness.run_all()

    assert harness.steps_run[:3] == ["a", "a", "a"] and [call.run_id for call in harness.calls][:3] == [
        "w-0",
        "w-1",
        "w-2",
    ]
    assert all(harness.view(f"w-{number}").state is RunState.COMPLETED for number in range(3))
    assert len(harness.calls) == 6


def test_steps_use_the_queue_retries_and_time_limit_of_their_definition(harness: WorkflowHarness) -> None:
    harness.start({"name": "a", "queue": "analytics", "max_retries": 7, "timeout": 2.5})

    assert [peeked.stored.message.task_id for peeked in harness.platform.messages("analytics")] == ["w-1:a:1"]
    row = harness.platform.row("w-1:a:1")
    assert (row.queue, row.max_retries, row.options["time_limit"]) == ("analytics", 7, 2.5)
    assert registry["run_workflow_step_task"].on_failure == "settle_workflow_step_task"


def _stored(harness: WorkflowHarness) -> list[TaskRun]:
    return [run for run in harness.platform.rows() if run.name == "run_workflow_step_task"]
