"""The calls of workflows. Send them with `Client.send`."""

from __future__ import annotations

from typing import Any

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call
from laneway.schemas.workflow_run import (
    DefinitionsResponse,
    RetryDefinition,
    RetryFrom,
    SignalResponse,
    WorkflowCancelResponse,
    WorkflowHandle,
    WorkflowPage,
    WorkflowPauseResponse,
    WorkflowRequest,
    WorkflowView,
)


def workflows(**parameters: Any) -> Call[WorkflowPage]:
    """`GET /api/workflows`: the parameters are those of the API."""
    return Call("GET", "/api/workflows", adapter(WorkflowPage), params=given(parameters))


def workflow_definitions() -> Call[DefinitionsResponse]:
    """`GET /api/workflow-definitions`."""
    return Call("GET", "/api/workflow-definitions", adapter(DefinitionsResponse))


def workflow(id: str) -> Call[WorkflowView]:
    """`GET /api/workflows/{id}`."""
    return Call("GET", f"/api/workflows/{part(id)}", adapter(WorkflowView))


def start_workflow(request: WorkflowRequest) -> Call[WorkflowHandle]:
    """`POST /api/workflows`. Without an id or an idempotency key a repeat could start a second one."""
    is_named = request.id is not None or request.idempotency_key is not None
    body = request.model_dump(mode="json", exclude_none=True)
    return Call("POST", "/api/workflows", adapter(WorkflowHandle), body, repeatable=is_named)


def cancel_workflow(id: str) -> Call[WorkflowCancelResponse]:
    """`POST /api/workflows/{id}/cancel`."""
    return Call("POST", f"/api/workflows/{part(id)}/cancel", adapter(WorkflowCancelResponse))


def pause_workflow(id: str) -> Call[WorkflowPauseResponse]:
    """`POST /api/workflows/{id}/pause`."""
    return Call("POST", f"/api/workflows/{part(id)}/pause", adapter(WorkflowPauseResponse))


def resume_workflow(id: str) -> Call[WorkflowPauseResponse]:
    """`POST /api/workflows/{id}/resume`."""
    return Call("POST", f"/api/workflows/{part(id)}/resume", adapter(WorkflowPauseResponse))


def retry_workflow(id: str, start: RetryFrom, definition: RetryDefinition) -> Call[WorkflowHandle]:
    """`POST /api/workflows/{id}/retry`. A repeat could start a second one."""
    body = {"from": start.value, "definition": definition.value}
    return Call("POST", f"/api/workflows/{part(id)}/retry", adapter(WorkflowHandle), body, repeatable=False)


def signal_workflow(id: str, name: str, *, data: dict[str, Any], key: str | None) -> Call[SignalResponse]:
    """`POST /api/workflows/{id}/signals/{name}`. A repeat changes nothing."""
    body = given({"data": data, "id": key})
    return Call("POST", f"/api/workflows/{part(id)}/signals/{part(name)}", adapter(SignalResponse), body)
