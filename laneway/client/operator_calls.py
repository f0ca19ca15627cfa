"""The calls of operators: lists, figures, dead letters, limits, workers. Send them with `Client.send`.

Those of workflows are in `workflow_calls`. A schema that not every call needs is imported when a call needs it, because
the command line sends one call and starts often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call
from laneway.schemas.task import AttemptView, TaskPage

if TYPE_CHECKING:
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
    from laneway.schemas.waiting import WhyResponse
    from laneway.schemas.worker import TaskNamesResponse, WorkersResponse


def search(**parameters: Any) -> Call[TaskPage]:
    """`GET /tasks`: the parameters are those of the API."""
    return Call("GET", "/tasks", adapter(TaskPage), params=given(parameters))


def attempts(id: str) -> Call[list[AttemptView]]:
    """`GET /tasks/{id}/attempts`."""
    return Call("GET", f"/tasks/{part(id)}/attempts", TypeAdapter(list[AttemptView]))


def why(id: str) -> Call[WhyResponse]:
    """`GET /tasks/{id}/why`."""
    from laneway.schemas.waiting import WhyResponse

    return Call("GET", f"/tasks/{part(id)}/why", adapter(WhyResponse))


def stats(**parameters: Any) -> Call[StatsResponse]:
    """`GET /stats`: `window` in seconds, `queue`, `name`."""
    from laneway.schemas.history import StatsResponse

    return Call("GET", "/stats", adapter(StatsResponse), params=given(parameters))


def alerts(*, closed: bool = False) -> Call[AlertsResponse]:
    """`GET /alerts`; with `closed` also those that are over."""
    from laneway.schemas.alert import AlertsResponse

    return Call("GET", "/alerts", adapter(AlertsResponse), params=given({"closed": closed}))


def test_alerts() -> Call[AlertTestResponse]:
    """`POST /alerts/test`. The receivers have 45 s to answer."""
    from laneway.schemas.alert import AlertTestResponse

    return Call("POST", "/alerts/test", adapter(AlertTestResponse), waiting=45, repeatable=False)


def workers() -> Call[WorkersResponse]:
    """`GET /workers`."""
    from laneway.schemas.worker import WorkersResponse

    return Call("GET", "/workers", adapter(WorkersResponse))


def task_names() -> Call[TaskNamesResponse]:
    """`GET /task-names`."""
    from laneway.schemas.worker import TaskNamesResponse

    return Call("GET", "/task-names", adapter(TaskNamesResponse))


def queue_limits() -> Call[QueueLimitsListResponse]:
    """`GET /queues`."""
    from laneway.schemas.queue import QueueLimitsListResponse

    return Call("GET", "/queues", adapter(QueueLimitsListResponse))


def limits_of(queue: str) -> Call[QueueLimitsResponse]:
    """`GET /queues/{queue}/limits`."""
    from laneway.schemas.queue import QueueLimitsResponse

    return Call("GET", f"/queues/{part(queue)}/limits", adapter(QueueLimitsResponse))


def set_limits(queue: str, limits: QueueLimits) -> Call[QueueLimitsResponse]:
    """`PUT /queues/{queue}/limits`."""
    from laneway.schemas.queue import QueueLimitsResponse

    body = limits.model_dump(mode="json", exclude_none=True)
    return Call("PUT", f"/queues/{part(queue)}/limits", adapter(QueueLimitsResponse), body)


def dead_letters(**parameters: Any) -> Call[DeadLetterPage]:
    """`GET /dead-letters`: the parameters are those of the API."""
    from laneway.schemas.history import DeadLetterPage

    return Call("GET", "/dead-letters", adapter(DeadLetterPage), params=given(parameters))


def dead_letter_groups(*, failed: bool) -> Call[DeadLetterGroupsResponse]:
    """`GET /dead-letters/groups`."""
    from laneway.schemas.history import DeadLetterGroupsResponse

    return Call("GET", "/dead-letters/groups", adapter(DeadLetterGroupsResponse), params=given({"failed": failed}))


def dead_letter(id: str) -> Call[DeadLetterView]:
    """`GET /dead-letters/{id}`."""
    from laneway.schemas.history import DeadLetterView

    return Call("GET", f"/dead-letters/{part(id)}", adapter(DeadLetterView))


def change_dead_letters(action: str, selected: DeadLetterSelection) -> Call[BulkActionResponse]:
    """`POST /dead-letters/{requeue|discard|restore}`. A repeat would count only what the first call left."""
    from laneway.schemas.history import BulkActionResponse

    body = selected.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return Call("POST", f"/dead-letters/{action}", adapter(BulkActionResponse), body, repeatable=selected.dry_run)
