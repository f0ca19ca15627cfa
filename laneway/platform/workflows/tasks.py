"""The tasks that run workflows. An application registers them on a queue of its own."""

from __future__ import annotations

from typing import Any, Final

from laneway.platform.current import current_platform
from laneway.platform.execution.context import Context
from laneway.platform.task_decorator import task
from laneway.platform.workflows.child_plans import ITEM_ROLE
from laneway.platform.workflows.runs import STOP_ROLE
from laneway.platform.workflows.transitions import STEP_ROLE
from laneway.schemas.payload import EndedTask
from laneway.schemas.workflow_run import WorkflowItemRef, WorkflowRef, WorkflowStepRef

SETTLE_TASK: Final = "settle_workflow_step_task"
RETRIES: Final = 20
"""Many retries, because these tasks must not be left half done."""


def run_workflow_step_task(ctx: Context, payload: WorkflowStepRef) -> dict[str, Any]:
    """Run one visit of one step, and start the steps that follow."""
    return current_platform().workflow_steps.run(payload, ctx)


def run_workflow_item_task(ctx: Context, payload: WorkflowItemRef) -> dict[str, Any]:
    """Run the handler of a step for one item of its list."""
    return current_platform().workflow_steps.run_item(payload, ctx)


def settle_workflow_step_task(payload: EndedTask) -> dict[str, Any]:
    """End a step whose task ended for good without ending it."""
    return current_platform().workflow_steps.settle_ended_task(payload)


def stop_workflow_task(payload: WorkflowRef) -> dict[str, Any]:
    """Stop the steps of a cancelled workflow that still run."""
    return {"stopping": current_platform().workflows.stop_steps(payload.run_id)}


def register_workflow_tasks(*, queue: str) -> None:
    """Register the tasks that run workflows on this queue; a step may name another queue."""
    task(queue=queue, role=STEP_ROLE, internal=True, on_failure=SETTLE_TASK)(run_workflow_step_task)
    task(queue=queue, role=ITEM_ROLE, internal=True)(run_workflow_item_task)
    task(queue=queue, retries=RETRIES)(settle_workflow_step_task)
    task(queue=queue, role=STOP_ROLE, internal=True, retries=RETRIES)(stop_workflow_task)
