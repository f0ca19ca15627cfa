"""Runs of workflows, step by step: order, joins, outcomes, repeats, failures."""

from __future__ import annotations

from laneway.platform.schemas.workflow_run import RunState
from laneway.platform.workflows.handlers import failed
from tests.laneway.platform.workflows.conftest import Desk

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


def test_steps_run_after_those_that_they_come_after_and_are_given_their_outputs(desk: Desk) -> None:
    desk.start(*DIAMOND, given={"n": 1})

    desk.work()

    assert desk.ran[0] == "a" and sorted(desk.ran[1:3]) == ["b", "c"] and desk.ran[3:] == ["d"]
    last = desk.calls[-1]
    assert (dict(last.input), set(last.outputs)) == ({"n": 1}, {"a", "b", "c"})
    view = desk.view()
    assert (view.state, view.output) == (RunState.COMPLETED, {"d": {"step": "d", "visit": 1}})
    assert view.metrics["completed"] == 1 and view.duration_seconds is not None
    assert set(desk.states().values()) == {"ok"}


def test_a_failed_qa_leads_to_fix_and_back_at_most_so_often(desk: Desk) -> None:
    desk.scripts["qa"] = [failed("3 tests fail", {"defects": 3}), failed("1 test fails", {"defects": 1})]
    desk.start(*PIPELINE)

    desk.work()

    assert desk.ran == ["dev", "qa", "fix", "qa", "fix", "qa", "deploy"]
    found = [call.outputs["qa"] for call in desk.calls if call.step == "fix"]
    assert found == [{"defects": 3}, {"defects": 1}]
    assert desk.view().state is RunState.COMPLETED


def test_a_loop_that_was_gone_through_often_enough_fails_the_run(desk: Desk) -> None:
    desk.scripts["qa"] = [failed("no") for _ in range(3)]
    desk.start(*PIPELINE)

    desk.work()

    assert desk.ran == ["dev", "qa", "fix", "qa", "fix", "qa"]
    view = desk.view()
    assert (view.state, view.error) == (RunState.FAILED, "qa: no")
    assert desk.states()["deploy:1"] == "skipped"


def test_an_error_fails_the_step_for_good_and_a_retry_of_its_task_by_hand_revives_the_run(desk: Desk) -> None:
    desk.scripts["b"] = [ValueError("wrong")]
    desk.start(*DIAMOND)
    desk.work()
    view = desk.view()
    assert (view.state, view.error) == (RunState.FAILED, "b: wrong")
    assert desk.states() == {"a:1": "ok", "b:1": "failed", "c:1": "ok", "d:1": "skipped"}

    desk.services.tasks.retry("w-1:b:1")
    desk.work()

    assert desk.view().state is RunState.COMPLETED
    assert desk.states() == {"a:1": "ok", "b:1": "ok", "c:1": "ok", "d:1": "skipped", "d:2": "ok"}
    assert desk.ran.count("a") == desk.ran.count("c") == 1
