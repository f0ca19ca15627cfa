"""Steps that are done by tasks, by workflows, or once for each item of a list."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.engine import MessageState
from laneway.platform.db.queries import workflows as repository
from laneway.platform.errors import PlatformError
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Snoozed
from laneway.platform.workflows.definitions import Definitions, checked_plan, parsed_definition
from laneway.platform.workflows.handlers import Children, ChildTask, ChildWorkflow, failed
from laneway.platform.workflows.runs import MAX_DEPTH
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RunState, StepView
from tests.laneway.platform.workflows.conftest import WorkflowHarness

HOOK = "send_webhook_response_task"
WITH = {"url": "https://example.com/hook", "event": "replied", "data": {"n": "$item"}}


def step(harness: WorkflowHarness, name: str, id: str = "w-1") -> StepView:
    return next(each for each in harness.view(id).steps[::-1] if each.step == name)


def settle(harness: WorkflowHarness, *outcomes: Outcome) -> None:
    """Let workers run the webhooks' tasks with these outcomes, in order, and everything that follows."""
    for outcome in outcomes:
        delivery = harness.platform.fetch("webhooks")
        assert delivery is not None, "no child waits"
        attempt = harness.platform.begun(delivery)
        assert isinstance(attempt, Attempt)
        attempt.max_retries = 0
        harness.platform.end(attempt, outcome)
    harness.run_all()


def test_a_step_is_a_task_and_its_output_is_the_result(harness: WorkflowHarness) -> None:
    payload = {**WITH, "data": {"n": "$input.number", "path": "$steps.a.path", "price": "$$5"}}
    harness.scripts["a"] = [{"path": "dist/x"}]
    hook = {"name": "hook", "handler": None, "task": HOOK, "with": payload, "after": ["a"], "max_retries": 7}
    harness.start({"name": "a"}, hook, {"name": "b", "after": ["hook"]}, input={"number": 3})
    harness.run_all()

    row = harness.platform.row("w-1:hook:1:0")
    assert (row.payload["data"], row.queue, row.max_retries) == (
        *({"n": 3, "path": "dist/x", "price": "$5"}, "webhooks", 7),
    )
    assert step(harness, "hook").waiting_for == "its children: 0 of 1 ended"
    assert harness.platform.messages("workflows", MessageState.LEASED) == []

    settle(harness, Completed({"status": 200}))

    assert harness.calls[-1].outputs["hook"] == {"status": 200}
    assert harness.view().state is RunState.COMPLETED


def test_the_failure_of_the_task_is_the_failure_of_the_step_and_a_retry_runs_it_again(
    harness: WorkflowHarness,
) -> None:
    harness.start({"name": "hook", "handler": None, "task": HOOK, "with": {**WITH, "data": {}}})
    harness.run_all()
    settle(harness, Raised(ValueError("wrong")))
    assert (harness.view().state, harness.view().error) == (RunState.FAILED, "hook: w-1:hook:1:0: wrong")

    harness.services.workflows.retry("w-1")
    harness.run_all()
    settle(harness, Completed({"status": 200}))

    assert (harness.view().state, harness.view().output) == (RunState.COMPLETED, {"hook": {"status": 200}})


def fan_out(harness: WorkflowHarness, items: Any, **more: Any) -> None:
    each = {"items": "$input.list", **more}
    steps = [{"name": "hooks", "handler": None, "task": HOOK, "with": WITH, "for_each": each}]
    harness.start(*steps, {"name": "after", "after": ["hooks"]}, input={"list": items})
    harness.run_all()


def test_a_list_runs_at_most_so_many_at_once_and_its_results_are_in_order(harness: WorkflowHarness) -> None:
    fan_out(harness, [10, 11, 12], at_once=2)
    assert harness.platform.sent("webhooks") == ["w-1:hooks:1:0", "w-1:hooks:1:1"]

    settle(harness, Completed({"n": 0}))
    assert len(harness.platform.sent("webhooks")) == 2
    assert step(harness, "hooks").waiting_for == "its children: 1 of 3 ended"
    settle(harness, Completed({"n": 1}), Completed({"n": 2}))

    assert harness.calls[-1].outputs["hooks"] == {"results": [{"n": 0}, {"n": 1}, {"n": 2}], "failed": []}
    assert [harness.platform.row(f"w-1:hooks:1:{n}").payload["data"]["n"] for n in range(3)] == [10, 11, 12]
    assert harness.view().state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("failures", "ran", "state"),
    [("fail", 3, RunState.FAILED), ("allow", 3, RunState.COMPLETED), ("stop", 1, RunState.FAILED)],
)
def test_failed_items_fail_the_step_or_stop_it_or_are_named(
    harness: WorkflowHarness, failures: str, ran: int, state: RunState
) -> None:
    fan_out(harness, [1, 2, 3], at_once=1, failures=failures)
    settle(harness, Raised(ValueError("wrong")))
    for _ in range(ran - 1):
        settle(harness, Completed({"done": True}))

    done = [{"done": True}] * (ran - 1)
    assert step(harness, "hooks").output == {
        "results": [None, *done, *[None] * (3 - ran)],
        "failed": [{"index": 0, "error": "wrong"}],
    }
    assert (harness.view().state, len([row for row in harness.platform.rows() if row.name == HOOK])) == (state, ran)
    if state is RunState.FAILED:
        assert harness.view().error == "hooks: 1 of 3 items failed: item 0: wrong"


def test_a_list_that_is_too_long_or_no_list_fails_the_step_and_starts_nothing(harness: WorkflowHarness) -> None:
    for id, items, problem in (
        ("long", list(range(5)), "The step 'hooks' has 5 items, and may have 4: split the list"),
        ("text", "abc", "runs for each item of a list, and $input.list is of the type str"),
    ):
        each = {"items": "$input.list", "at_most": 4}
        hook = {"name": "hooks", "handler": None, "task": HOOK, "with": WITH, "for_each": each}
        harness.start(hook, id=id, input={"list": items})
        harness.run_all()
        assert problem in (harness.view(id).error or "")
    assert harness.platform.sent("webhooks") == []


def test_an_empty_list_is_done_at_once(harness: WorkflowHarness) -> None:
    fan_out(harness, [])
    assert step(harness, "hooks").output == {"results": [], "failed": []}
    assert harness.view().state is RunState.COMPLETED


def test_a_handler_runs_for_each_item(harness: WorkflowHarness) -> None:
    harness.scripts["each"] = [{"n": 1}, failed("item is bad"), {"n": 3}]
    each = {"items": ["x", "y", "z"], "failures": "allow"}
    harness.start({"name": "each", "for_each": each}, {"name": "after", "after": ["each"]})
    harness.run_all()

    assert [(call.item, call.index) for call in harness.calls[:3]] == [("x", 0), ("y", 1), ("z", 2)]
    assert harness.calls[-1].outputs["each"] == {
        "results": [{"n": 1}, None, {"n": 3}],
        "failed": [{"index": 1, "error": "item is bad"}],
    }


def test_a_handler_chooses_children_once(harness: WorkflowHarness) -> None:
    tasks = [ChildTask(HOOK, {**WITH, "data": {"n": number}}) for number in range(2)]
    harness.scripts["a"] = [Children(tasks, at_once=1)]
    harness.start({"name": "a"})
    harness.run_all()
    settle(harness, Completed({"n": 0}))
    settle(harness, Completed({"n": 1}))

    assert (harness.steps_run, step(harness, "a").output) == (["a"], {"results": [{"n": 0}, {"n": 1}], "failed": []})


def child_type(harness: WorkflowHarness, *steps: dict[str, Any], name: str = "child") -> None:
    """Let workflows of this name be started, beside those that there are."""
    definition = parsed_definition(name, {"name": name, "steps": list(steps)})
    plan = checked_plan(definition, handlers=harness.services.workflow_handlers, inputs={})
    known = {each.definition.name: each for each in harness.services.workflow_definitions.plans}
    harness.services.workflows.definitions = harness.services.workflow_definitions = Definitions(
        {**known, name: plan}, harness.services.workflow_inputs
    )


def test_a_step_is_a_workflow_that_is_cancelled_and_retried_with_its_parent(harness: WorkflowHarness) -> None:
    child_type(
        harness,
        {"name": "one", "kind": "signal", "timeout": 60},
        {"name": "two", "handler": "scripted", "after": ["one"]},
    )
    harness.start({"name": "sub", "handler": None, "workflow": "child", "with": {"n": "$input.n"}}, input={"n": 1})
    harness.run_all()
    child = harness.view("w-1:sub:1:0")
    assert (child.parent_id, child.parent_step, child.input, child.state) == ("w-1", "sub", {"n": 1}, RunState.PENDING)

    harness.services.workflows.cancel("w-1")
    harness.run_all()
    assert harness.view("w-1:sub:1:0").state is RunState.CANCELLED

    harness.services.workflows.retry("w-1")
    harness.run_all()
    assert harness.view("w-1:sub:1:0").state is RunState.RUNNING
    harness.services.workflows.signal("w-1:sub:1:0", "one", data={})
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED
    assert harness.view().output == {"sub": {"two": {"step": "two", "visit": 1}}}


def test_a_cancel_stops_the_tasks_of_a_list(harness: WorkflowHarness) -> None:
    fan_out(harness, [1, 2, 3], at_once=2)
    harness.services.workflows.cancel("w-1")
    harness.run_all()
    assert harness.platform.sent("webhooks") == []
    assert {harness.platform.state(f"w-1:hooks:1:{n}") for n in range(2)} == {TaskState.CANCELLED}
    with pytest.raises(PlatformError):
        harness.platform.row("w-1:hooks:1:2")


def test_workflows_that_start_themselves_end(harness: WorkflowHarness) -> None:
    child_type(harness, {"name": "again", "workflow": "child"})
    harness.services.workflows.start("child", {})
    harness.run_all()
    with harness.services.database.reading() as session:
        runs = repository.page(session, repository.RunFilter(), before=None, limit=50)
    assert (len(runs), {run.state for run in runs}) == (MAX_DEPTH, {RunState.FAILED})
    assert f"{MAX_DEPTH} workflows" in (runs[0].error or "")


def test_children_of_two_kinds_and_too_many_are_refused(harness: WorkflowHarness) -> None:
    harness.scripts["a"] = [Children([ChildTask(HOOK, {}), ChildWorkflow("child", {})])]
    harness.scripts["b"] = [Children([ChildWorkflow("child", {})] * 10_001)]
    harness.start({"name": "a"}, id="w-1")
    harness.start({"name": "b"}, id="w-2")
    harness.run_all()
    assert "must be of one kind" in (harness.view("w-1").error or "")
    assert "has 10,001 items, and may have 10,000" in (harness.view("w-2").error or "")


def test_a_paused_run_starts_no_further_item(harness: WorkflowHarness) -> None:
    fan_out(harness, [1, 2], at_once=1)
    harness.services.workflows.pauses.pause("w-1")
    settle(harness, Completed({}))
    assert harness.platform.sent("webhooks") == []
    harness.services.workflows.pauses.resume("w-1")
    harness.run_all()
    assert harness.platform.sent("webhooks") == ["w-1:hooks:1:1"]


def test_an_item_of_a_step_that_is_over_is_cancelled(harness: WorkflowHarness) -> None:
    harness.start({"name": "each", "for_each": {"items": ["x"]}})
    driver = harness.run_next()
    assert isinstance(driver, Snoozed)
    attempt = harness.begin_task()
    assert attempt is not None and attempt.task_id == "w-1:each:1:0"
    harness.services.workflows.cancel("w-1")
    assert type(harness.run(attempt)).__name__ == "Stopped"
    assert harness.calls == []
