"""Workflows: start, list, show, signal, pause, resume, cancel, retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.workflows import RunFilter
from laneway.platform.workflows.runs import StartOptions
from laneway.platform.workflows.views import definitions_view
from laneway.schemas.workflow import Name
from laneway.schemas.workflow_run import (
    DefinitionsResponse,
    RetryDefinition,
    RetryFrom,
    RetryRequest,
    RunState,
    SignalRequest,
    SignalResponse,
    WorkflowCancelResponse,
    WorkflowHandle,
    WorkflowPage,
    WorkflowPauseResponse,
    WorkflowRequest,
    WorkflowView,
)

router = APIRouter(prefix="/api", tags=["workflows"], route_class=ThreadedRoute)

RunId = Annotated[str, Path(min_length=1, max_length=96, pattern=NO_NULL, examples=["0b7c"])]
SignalName = Annotated[str, Path(min_length=1, max_length=40, pattern=NO_NULL, examples=["approve"])]
LAST_ID = 2**63 - 1
RetryBody = Annotated[RetryRequest, Body()]
SignalBody = Annotated[SignalRequest, Body()]
FROM_FAILED, WITHOUT_DATA = RetryRequest.model_validate({}), SignalRequest()
"""The values used for requests without a body."""


@router.get("/workflow-definitions", responses=problems(), dependencies=[requires(Scope.READ)])
def list_workflow_definitions(services: ServicesDep) -> DefinitionsResponse:
    """List the workflow types that can be started: their steps, and the JSON schema of their input."""
    return definitions_view(services.workflows.definitions)


@router.post(
    "/workflows",
    status_code=202,
    response_description="Accepted; each step runs as a task",
    responses={200: {"model": WorkflowHandle, "description": "Already accepted"}, **problems(409, 429)},
    dependencies=[requires(Scope.SUBMIT)],
)
def start_workflow(body: WorkflowRequest, services: ServicesDep, response: Response) -> WorkflowHandle:
    """Start a workflow of any type."""
    options = StartOptions(id=body.id, idempotency_key=body.idempotency_key)
    accepted = services.workflows.start(body.workflow_type, body.input, options=options)
    response.status_code = 202 if accepted.created else 200
    return accepted


@router.get("/workflows", responses=problems(), dependencies=[requires(Scope.READ)])
def list_workflows(
    services: ServicesDep,
    state: Annotated[list[RunState] | None, Query()] = None,
    type: Annotated[Name | None, Query(description="Only workflows of this type")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> WorkflowPage:
    """List workflows, newest first."""
    return services.workflow_views.page(RunFilter(tuple(state or ()), type), before=before, limit=limit)


@router.get("/workflows/{workflow_id}", responses=problems(404), dependencies=[requires(Scope.READ)])
def show_workflow(workflow_id: RunId, services: ServicesDep) -> WorkflowView:
    """Show one workflow: its steps with states, outputs, errors and times, its results, and why it waits."""
    return services.workflow_views.view(workflow_id)


@router.post("/workflows/{workflow_id}/cancel", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE)])
def cancel_workflow(workflow_id: RunId, services: ServicesDep) -> WorkflowCancelResponse:
    """Cancel a workflow. Waiting steps never start; running steps are asked to stop."""
    return services.workflows.cancel(workflow_id)


@router.post("/workflows/{workflow_id}/pause", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE)])
def pause_workflow(workflow_id: RunId, services: ServicesDep) -> WorkflowPauseResponse:
    """Pause a workflow: running steps end, and no further step starts. Timers do not fire. A repeat changes nothing."""
    return services.workflows.pauses.pause(workflow_id)


@router.post("/workflows/{workflow_id}/resume", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE)])
def resume_workflow(workflow_id: RunId, services: ServicesDep) -> WorkflowPauseResponse:
    """Let a paused workflow go on. Timers that ended meanwhile fire now. A repeat changes nothing."""
    return services.workflows.pauses.resume(workflow_id)


@router.post(
    "/workflows/{workflow_id}/retry",
    status_code=202,
    responses=problems(404, 409, 429),
    dependencies=[requires(Scope.OPERATE)],
)
def retry_workflow(workflow_id: RunId, services: ServicesDep, body: RetryBody = FROM_FAILED) -> WorkflowHandle:
    """Continue a workflow with the steps that failed or, with `from: start`, start a new one with the same input."""
    newest = body.definition is RetryDefinition.NEWEST
    if body.start_from is RetryFrom.START:
        return services.workflows.restart(workflow_id, new_id=body.id, newest=newest)
    return services.workflows.retry(workflow_id, newest=newest)


@router.post(
    "/workflows/{workflow_id}/signals/{name}",
    status_code=202,
    responses=problems(404, 409),
    dependencies=[requires(Scope.OPERATE)],
)
def signal_workflow(
    workflow_id: RunId, name: SignalName, services: ServicesDep, body: SignalBody = WITHOUT_DATA
) -> SignalResponse:
    """Send a signal. It is kept until a step waits for it. Sending the same signal again changes nothing."""
    return services.workflows.signal(workflow_id, name, data=body.data, key=body.id or "")
