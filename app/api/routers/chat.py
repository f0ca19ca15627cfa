"""Route of the chat endpoint: an agent starts a workflow, and follows it by its id."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.api.deps import ServicesDep
from app.schemas.chat import ChatRequest
from laneway.api.access import requires
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.workflow_run import WorkflowHandle

router = APIRouter(prefix="/api", tags=["workflows"], route_class=ThreadedRoute)


@router.post(
    "/chat",
    status_code=202,
    response_description="Accepted: its steps are tasks",
    responses={200: {"model": WorkflowHandle, "description": "It was accepted before"}, **problems(409, 429)},
    dependencies=[requires(Scope.SUBMIT)],
)
def start_chat_workflow(body: ChatRequest, services: ServicesDep, response: Response) -> WorkflowHandle:
    """Accept a workflow for an agent and answer at once.

    While the broker is unreachable the status is `accepted`; the workflow starts when the broker is back.
    """
    options = StartOptions(id=body.id, idempotency_key=body.idempotency_key, agent_id=body.agent_id)
    accepted = services.workflows.start(body.context.workflow_type, body.context.workflow_input, options=options)
    response.status_code = 202 if accepted.created else 200
    return accepted
