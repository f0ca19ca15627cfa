"""Runs of workflows, step by step: order, joins, outcomes, repeats, failures."""

from __future__ import annotations

from laneway.platform.workflows.handlers import failed
from laneway.schemas.workflow_run import RunState
from tests.laneway.platform.workflows.conftest import WorkflowHarness

DIAMOND = (
    {"name": "a"},
    {"name": "b", "after": ["a"]},
    {"name": "c", "after": ["a"]},
    {"name": "d", "after": ["b", "c"]},
)
PIPELINE = (
    {"name": "dev"},
    {"name": "qa", "after": ["dev"], "on_failed": {"goto": "fix", "at_most": 2}},
    {"name": "fix", "then": "qa"},
    {"name": "deploy", "after": ["qa"]},
)


def test_steps_run_after_their_predecessors_and_get_their_outputs(harness: WorkflowHarness) -> None:
    harness.start(*DIAMOND, input={"n": 1})

    harness.run_all()

    assert (
        harness.steps_run[0] == "a" and sorted(harness.steps_run[1:3]) == ["b", "c"] and harness.steps_run[3:] == ["d"]
    )
    last = harness.calls[-1]
    assert (dict(last.input), set(last.outputs)) == ({"n": 1}, {"a", "b", "c"})
    view = harness.view()
    assert (view.state, view.output) == (RunState.COMPLETED, {"d": {"step": "d", "visit": 1}})
    assert view.metrics["completed"] == 1 and view.duration_seconds is not None
    assert set(harness.states().values()) == {"ok"}


def test_a_failed_qa_leads_to_fix_and_back_within_the_limit(harness: WorkflowHarness) -> None:
    harness.scripts["qa"] = [failed("3 tests fail", {"defects": 3}), failed("1 test fails", {"defects": 1})]
    harness.start(*PIPELINE)

    harness.run_all()

    assert harness.steps_run == ["dev", "qa", "fix", "qa", "fix", "qa", "deploy"]
    found = [call.outputs["qa"] for call in harness.calls if call.step == "fix"]
    assert found == [{"defects": 3}, {"defects": 1}]
    assert harness.view().state is RunState.COMPLETED


def test_a_loop_that_used_up_its_rounds_fails_the_run(harness: WorkflowHarness) -> None:
    harness.scripts["qa"] = [failed("no") for _ in range(3)]
    harness.start(*PIPELINE)

    harness.run_all()

    assert harness.steps_run == ["dev", "qa", "fix", "qa", "fix", "qa"]
    view = harness.view()
    assert (view.state, view.error) == (RunState.FAILED, "qa: no")
    assert harness.states()["deploy:1"] == "skipped"


def test_retrying_the_task_of_a_failed_step_continues_the_run(
    harness: WorkflowHarness,
) -> None:
    harness.scripts["b"] = [ValueError("wrong")]
    harness.start(*DIAMOND)
    harness.run_all()
    view = harness.view()
    assert (view.state, view.error) == (RunState.FAILED, "b: wrong")
    assert harness.states() == {"a:1": "ok", "b:1": "failed", "c:1": "ok", "d:1": "skipped"}

    harness.services.tasks.retry("w-1:b:1")
    harness.run_all()

    assert harness.view().state is RunState.COMPLETED
    assert harness.states() == {"a:1": "ok", "b:1": "ok", "c:1": "ok", "d:1": "skipped", "d:2": "ok"}
    assert harness.steps_run.count("a") == harness.steps_run.count("c") == 1
