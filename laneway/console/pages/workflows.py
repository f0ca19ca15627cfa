"""The list of workflow runs, and one run: its steps as a graph and as a table, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import LAST_ID
from laneway.api.routers.workflows import RunId
from laneway.console.graph import condition_of, drawing
from laneway.console.rendering import PageRoute, Pages
from laneway.console.values import shown_value
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import workflows as runs
from laneway.platform.db.queries.workflows import RunFilter
from laneway.platform.errors import NotFound
from laneway.platform.logging import without_secrets
from laneway.platform.platform import Platform
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.transitions import plan_of
from laneway.schemas.workflow import StepKind
from laneway.schemas.workflow_run import RUN_OVER, RunState, StepView

router = APIRouter(
    prefix="/console/workflows", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Workflows", "/console/workflows", "f"),)
pages = Pages()

PAGE: Final = 50
MOST_VISITS: Final = 300
"""Newest visits of steps that the page of a run lists."""
RETRIED: Final = (RunState.FAILED, RunState.CANCELLED)
"""The states of a run that can be continued."""


@router.get("", dependencies=[OnlyKnown])
async def show_workflows(
    request: Request,
    services: ServicesDep,
    state: Annotated[list[RunState] | None, Query()] = None,
    type: Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")] = "",
    before: Annotated[int | None, Query(ge=0, le=LAST_ID)] = None,
) -> Response:
    """Runs, newest first."""
    values = partial(_list_values, services, state or [], type, before)
    return await pages.show(request, "workflows.html", values, live=before is None)


@router.get("/{workflow_id}")
async def show_workflow_page(workflow_id: RunId, request: Request, services: ServicesDep) -> Response:
    """The page of a run."""
    return await pages.show(request, "workflow.html", partial(_values, services, workflow_id))


def _list_values(services: Platform, states: Sequence[RunState], type: str, before: int | None) -> Mapping[str, Any]:
    page = services.workflow_views.page(RunFilter(tuple(states), type or None), before=before, limit=PAGE)
    definitions = services.workflows.definitions
    return {
        "runs": page.workflows,
        "errors": {run.workflow_id: without_secrets(run.error) for run in page.workflows},
        "next": page.next,
        "before": before,
        "given": {"state": [each.value for each in states], "type": type},
        "states": list(RunState),
        "types": [plan.definition.name for plan in definitions.plans],
        "broken": definitions.broken,
    }


def _values(services: Platform, id: str) -> Mapping[str, Any]:
    view, plan = services.workflow_views.view(id), _plan(services, id)
    visits = view.steps[-MOST_VISITS:]
    latest = _latest(view.steps)
    can_operate, is_over = current_caller().may(Scope.OPERATE), view.state in RUN_OVER
    return {
        "run": view,
        "error": without_secrets(view.error),
        "waiting_for": without_secrets(view.waiting_for),
        "input": shown_value(view.input),
        "output": shown_value(view.output),
        "graph": drawing(plan),
        "condition_of": condition_of,
        "latest": latest,
        "steps": [_step(each, is_latest=each is latest[each.step]) for each in visits],
        "left_out": len(view.steps) - len(visits),
        "is_over": is_over,
        "may_operate": can_operate,
        "may_cancel": can_operate and not is_over,
        "may_continue": can_operate and view.state in RETRIED,
        "may_start_again": can_operate and is_over,
        "signals": _signals(plan, view.steps),
    }


def _plan(services: Platform, id: str) -> Plan:
    with services.database.reading() as session:
        run = runs.find(session, id)
        if run is None:
            raise NotFound("workflow", id)
        return plan_of(run)


def _latest(steps: Sequence[StepView]) -> dict[str, StepView]:
    """Step → its latest visit."""
    return {step.step: step for step in sorted(steps, key=lambda step: step.visit)}


def _signals(plan: Plan, steps: Sequence[StepView]) -> list[str]:
    """The signals of a run; those that a step waits for come first."""
    waited = {step.step for step in steps if step.kind is StepKind.SIGNAL and step.waiting_for}
    return sorted(plan.signals, key=lambda name: (plan.signals[name] not in waited, name))


def _step(step: StepView, *, is_latest: bool) -> dict[str, Any]:
    return {
        "view": step,
        "error": without_secrets(step.error),
        "waiting_for": without_secrets(step.waiting_for),
        "output": shown_value(step.output),
        "is_latest": is_latest,
    }
