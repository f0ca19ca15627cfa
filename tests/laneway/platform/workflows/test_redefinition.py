"""Runs that continue with the newest definition of their workflow, and steps that another version knows."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform.execution.outcomes import Completed, Raised, Snoozed
from laneway.platform.workflows.definitions import Definitions, checked_plan, parsed_definition
from laneway.platform.workflows.errors import DefinitionDoesNotFit, InvalidInput, UnknownHandler, UnknownWorkflowType
from laneway.platform.workflows.handlers import failed
from laneway.schemas.payload import Payload
from laneway.schemas.workflow_run import RunState
from tests.fixtures.platform import MovableClock
from tests.fixtures.waiting import wait_until
from tests.laneway.platform.workflows.conftest import WorkflowHarness

CHAIN = ({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})


class Amount(Payload):
    amount: int


def define(harness: WorkflowHarness, *steps: dict[str, Any], input: bool = False) -> None:
    """Make these steps version 2 of the workflow `tried`."""
    full = [{"handler": "scripted", **step} if step.get("kind", "task") == "task" else step for step in steps]
    content: dict[str, Any] = {"name": "tried", "version": 2, "steps": full}
    inputs: dict[str, Any] = {"amount": Amount}
    definition = parsed_definition("tried", content | ({"input": "amount"} if input else {}))
    plan = checked_plan(definition, handlers=harness.services.workflow_handlers, inputs=inputs)
    harness.services.workflows.definitions = Definitions({"tried": plan}, inputs)


def fail_at(harness: WorkflowHarness, step: str) -> None:
    """Run the chain until this step fails."""
    harness.scripts[step] = [failed("no")]
    harness.start(*CHAIN)
    harness.run_all()
    assert harness.view().state is RunState.FAILED
    harness.calls.clear()


def test_a_retry_keeps_the_definition_unless_the_newest_is_asked_for(harness: WorkflowHarness) -> None:
    fail_at(harness, "b")
    define(harness, *CHAIN, {"name": "d", "after": ["c"]})

    harness.services.workflows.retry("w-1")
    harness.run_all()

    assert harness.steps_run == ["b", "c"]
    assert harness.view().version == 1


def test_the_newest_definition_changes_what_is_still_to_be_done(harness: WorkflowHarness) -> None:
    fail_at(harness, "b")
    define(harness, *CHAIN[:2], {"name": "check", "after": ["b"]}, {"name": "d", "after": ["check", "a"]})

    harness.services.workflows.retry("w-1", newest=True)
    harness.run_all()

    assert harness.steps_run == ["b", "check", "d"]
    view = harness.view()
    assert (view.state, view.version) == (RunState.COMPLETED, 2)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (({"name": "b"}, {"name": "c", "after": ["b"]}), "it has no step 'a', which ran"),
        (
            ({"name": "first"}, {"name": "a", "after": ["first"]}, *CHAIN[1:]),
            "its step 'a', which is done, comes after 'first', which is not",
        ),
        (
            ({"name": "a", "kind": "wait", "seconds": 1}, *CHAIN[1:]),
            "its step 'a' is a wait, and was a task",
        ),
        (
            ({"name": "a", "after": ["b"]}, {"name": "b"}),
            "its step 'a', which is done, comes after 'b', which is not",
        ),
    ],
)
def test_a_definition_that_the_finished_steps_do_not_fit_is_refused_and_nothing_changes(
    harness: WorkflowHarness, steps: tuple[dict[str, Any], ...], problem: str
) -> None:
    fail_at(harness, "b")
    define(harness, *steps)

    with pytest.raises(DefinitionDoesNotFit) as refused:
        harness.services.workflows.retry("w-1", newest=True)

    assert str(refused.value) == (
        f"Workflow 'w-1' cannot continue with the newest definition (version 2): {problem}. "
        "Retry it with the definition that it was started with, or from its start."
    )
    assert (harness.view().state, harness.view().version) == (RunState.FAILED, 1)


def test_an_input_that_the_newest_definition_does_not_take_is_refused(harness: WorkflowHarness) -> None:
    fail_at(harness, "b")
    define(harness, *CHAIN, input=True)
    with pytest.raises(InvalidInput, match="amount"):
        harness.services.workflows.retry("w-1", newest=True)


def test_a_workflow_that_is_not_defined_any_more_is_refused(harness: WorkflowHarness) -> None:
    fail_at(harness, "b")
    harness.services.workflows.definitions = Definitions({}, {})
    with pytest.raises(UnknownWorkflowType):
        harness.services.workflows.retry("w-1", newest=True)


def test_a_restart_may_take_the_newest_definition(harness: WorkflowHarness) -> None:
    fail_at(harness, "b")
    define(harness, {"name": "z"})

    harness.services.workflows.restart("w-1", new_id="w-2", newest=True)
    harness.run_all()

    assert harness.steps_run == ["z"]


def test_a_step_whose_handler_is_not_known_here_waits_for_a_worker_that_knows_it(
    harness: WorkflowHarness, movable_clock: MovableClock
) -> None:
    harness.start({"name": "a"})
    handler = harness.services.workflow_handlers.pop("scripted")  # the worker is of an older version

    outcome = harness.run_next()
    assert isinstance(outcome, Snoozed)
    assert 0.5 <= outcome.delay < 10, "the longer it has waited, the more"
    assert "does not know the step handler 'scripted'" in outcome.reason

    movable_clock.forward(3600)
    attempt = wait_until(harness.begin_task, seconds=10)
    assert attempt is not None
    outcome = harness.run(attempt)
    assert isinstance(outcome, Raised)
    assert isinstance(outcome.error, UnknownHandler)
    harness.services.workflow_handlers["scripted"] = handler
    assert isinstance(harness.run(attempt), Completed)
