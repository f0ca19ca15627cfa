"""Whether a run that has begun can continue with another definition of its workflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from laneway.platform.db.models import WorkflowStepRun
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.transitions import latest_visits
from laneway.schemas.workflow import StepDefinition
from laneway.schemas.workflow_run import StepState

ENDED = frozenset({StepState.OK, StepState.SKIPPED})
"""States of a step that does not run again when its run is retried."""


def _work(step: StepDefinition) -> str:
    """Who does the work of a step: its children have ids of their own, and are kept in a retry."""
    what = "a task" if step.task else "a workflow" if step.workflow else "its handler"
    return f"{what} for each item of a list" if step.for_each else what


def misfits(before: Plan, plan: Plan, rows: Sequence[WorkflowStepRun]) -> Iterator[str]:
    """Yield why a run with these visits, made by the plan `before`, cannot continue with another plan.

    A step that ran must be there, of the same kind, and on or off a detour as before. A step that is done must not come
    after one that is not: else the run would continue with a step whose result was needed earlier.
    """
    ran = {row.step for row in rows if row.state != StepState.SKIPPED}
    counting = {name: row for name, row in latest_visits(rows).items() if row.superseded_by is None}
    done = {name for name, row in counting.items() if row.state in ENDED}
    for name in sorted(ran):
        if name not in plan.steps:
            yield f"it has no step {name!r}, which ran"
        elif plan.steps[name].kind is not before.steps[name].kind:
            yield f"its step {name!r} is a {plan.steps[name].kind}, and was a {before.steps[name].kind}"
        elif name not in done and _work(plan.steps[name]) != _work(before.steps[name]):
            yield f"its step {name!r} is done by {_work(plan.steps[name])}, and was done by {_work(before.steps[name])}"
        elif (name in plan.detour_of) is not (name in before.detour_of):
            yield f"its step {name!r} is on another side of a loop"
    for name in sorted(done & ran & set(plan.order)):
        missing = sorted(plan.ancestors[name] - done)
        if missing:
            yield f"its step {name!r}, which is done, comes after {', '.join(map(repr, missing))}, which is not"
