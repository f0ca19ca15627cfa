"""The calls of operators: lists, figures, dead letters, limits, workers, workflows. Send them with `Client.send`."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import quote

from pydantic import TypeAdapter

from laneway.client.calls import Call
from laneway.schemas.alert import AlertsResponse, AlertTestResponse
from laneway.schemas.history import (
    BulkActionResponse,
    DeadLetterGroupsResponse,
    DeadLetterPage,
    DeadLetterSelection,
    DeadLetterView,
    StatsResponse,
)
from laneway.schemas.queue import QueueLimits, QueueLimitsListResponse, QueueLimitsResponse
from laneway.schemas.task import AttemptView, TaskPage
from laneway.schemas.worker import TaskNamesResponse, WorkersResponse
from laneway.schemas.workflow_run import (
    DefinitionsResponse,
    RetryDefinition,
    RetryFrom,
    SignalResponse,
    WorkflowCancelResponse,
    WorkflowHandle,
    WorkflowPage,
    WorkflowRequest,
    WorkflowView,
)

T = TypeVar("T")


def search(**parameters: Any) -> Call[TaskPage]:
    """`GET /tasks`: the parameters are those of the API."""
    return Call("GET", "/tasks", _adapter(TaskPage), params=_given(parameters))


def attempts(id: str) -> Call[list[AttemptView]]:
    """`GET /tasks/{id}/attempts`."""
    return Call("GET", f"/tasks/{_part(id)}/attempts", TypeAdapter(list[AttemptView]))


def stats(**parameters: Any) -> Call[StatsResponse]:
    """`GET /stats`: `window` in seconds, `queue`, `name`."""
    return Call("GET", "/stats", _adapter(StatsResponse), params=_given(parameters))


def alerts(*, closed: bool = False) -> Call[AlertsResponse]:
    """`GET /alerts`; with `closed` also those that are over."""
    return Call("GET", "/alerts", _adapter(AlertsResponse), params=_given({"closed": closed}))


def test_alerts() -> Call[AlertTestResponse]:
    """`POST /alerts/test`. The receivers have 45 s to answer."""
    return Call("POST", "/alerts/test", _adapter(AlertTestResponse), waiting=45, repeatable=False)


def workers() -> Call[WorkersResponse]:
    """`GET /workers`."""
    return Call("GET", "/workers", _adapter(WorkersResponse))


def task_names() -> Call[TaskNamesResponse]:
    """`GET /task-names`."""
    return Call("GET", "/task-names", _adapter(TaskNamesResponse))


def queue_limits() -> Call[QueueLimitsListResponse]:
    """`GET /queues`."""
    return Call("GET", "/queues", _adapter(QueueLimitsListResponse))


def limits_of(queue: str) -> Call[QueueLimitsResponse]:
    """`GET /queues/{queue}/limits`."""
    return Call("GET", f"/queues/{_part(queue)}/limits", _adapter(QueueLimitsResponse))


def set_limits(queue: str, limits: QueueLimits) -> Call[QueueLimitsResponse]:
    """`PUT /queues/{queue}/limits`."""
    body = limits.model_dump(mode="json", exclude_none=True)
    return Call("PUT", f"/queues/{_part(queue)}/limits", _adapter(QueueLimitsResponse), body)


def dead_letters(**parameters: Any) -> Call[DeadLetterPage]:
    """`GET /dead-letters`: the parameters are those of the API."""
    return Call("GET", "/dead-letters", _adapter(DeadLetterPage), params=_given(parameters))


def dead_letter_groups(*, failed: bool) -> Call[DeadLetterGroupsResponse]:
    """`GET /dead-letters/groups`."""
    return Call("GET", "/dead-letters/groups", _adapter(DeadLetterGroupsResponse), params=_given({"failed": failed}))


def dead_letter(id: str) -> Call[DeadLetterView]:
    """`GET /dead-letters/{id}`."""
    return Call("GET", f"/dead-letters/{_part(id)}", _adapter(DeadLetterView))


def change_dead_letters(action: str, selected: DeadLetterSelection) -> Call[BulkActionResponse]:
    """`POST /dead-letters/{requeue|discard|restore}`. A repeat would count only what the first call left."""
    body = selected.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return Call("POST", f"/dead-letters/{action}", _adapter(BulkActionResponse), body, repeatable=selected.dry_run)


def workflows(**parameters: Any) -> Call[WorkflowPage]:
    """`GET /api/workflows`: the parameters are those of the API."""
    return Call("GET", "/api/workflows", _adapter(WorkflowPage), params=_given(parameters))


def workflow_definitions() -> Call[DefinitionsResponse]:
    """`GET /api/workflow-definitions`."""
    return Call("GET", "/api/workflow-definitions", _adapter(DefinitionsResponse))


def workflow(id: str) -> Call[WorkflowView]:
    """`GET /api/workflows/{id}`."""
    return Call("GET", f"/api/workflows/{_part(id)}", _adapter(WorkflowView))


def start_workflow(request: WorkflowRequest) -> Call[WorkflowHandle]:
    """`POST /api/workflows`. Without an id or an idempotency key a repeat could start a second one."""
    is_named = request.id is not None or request.idempotency_key is not None
    body = request.model_dump(mode="json", exclude_none=True)
    return Call("POST", "/api/workflows", _adapter(WorkflowHandle), body, repeatable=is_named)


def cancel_workflow(id: str) -> Call[WorkflowCancelResponse]:
    """`POST /api/workflows/{id}/cancel`."""
    return Call("POST", f"/api/workflows/{_part(id)}/cancel", _adapter(WorkflowCancelResponse))


def retry_workflow(id: str, start: RetryFrom, definition: RetryDefinition) -> Call[WorkflowHandle]:
    """`POST /api/workflows/{id}/retry`. A repeat could start a second one."""
    body = {"from": start.value, "definition": definition.value}
    return Call("POST", f"/api/workflows/{_part(id)}/retry", _adapter(WorkflowHandle), body, repeatable=False)


def signal_workflow(id: str, name: str, *, data: dict[str, Any], key: str | None) -> Call[SignalResponse]:
    """`POST /api/workflows/{id}/signals/{name}`. A repeat changes nothing."""
    body = _given({"data": data, "id": key})
    return Call("POST", f"/api/workflows/{_part(id)}/signals/{_part(name)}", _adapter(SignalResponse), body)


@cache
def _adapter(model: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(model)


def _part(value: str) -> str:
    """One part of a path."""
    if not value:
        raise ValueError("an id or a name is not empty")
    return quote(value, safe="")


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are set, as the API reads them."""
    return {name: _text(value) for name, value in parameters.items() if value is not None and value != ()}


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return [str(item) for item in cast("tuple[object, ...]", value)] if isinstance(value, tuple) else value
