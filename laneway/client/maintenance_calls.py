"""The calls that concern many tasks at once. Send them with `Client.send`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call

if TYPE_CHECKING:
    from laneway.schemas.audit import AuditView
    from laneway.schemas.bulk import BulkActionsResponse, TasksActionResponse, TaskSelection, UndoResponse
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse
    from laneway.schemas.maintenance import (
        CleanupRequest,
        CleanupResponse,
        FlushResponse,
        RetentionView,
        TakeInResponse,
    )


def clear_tasks(*, older_than: float, states: Sequence[ClearableState] = ()) -> Call[ClearResponse]:
    """`DELETE /tasks`. A repeat would count only what the first call left."""
    from laneway.schemas.history import ClearResponse

    params = given({"older_than": older_than, "state": tuple(states)})
    return Call("DELETE", "/tasks", adapter(ClearResponse), params=params, waiting=100, repeatable=False)


def flush_queue(queue: str, *, dry_run: bool) -> Call[FlushResponse]:
    """`POST /queues/flush`. A repeat would count, and cancel, only what was sent since."""
    from laneway.schemas.maintenance import FlushResponse

    body = {"queue": queue, "dry_run": dry_run}
    return Call("POST", "/queues/flush", adapter(FlushResponse), body, waiting=100, repeatable=dry_run)


def take_in_tasks(queue: str) -> Call[TakeInResponse]:
    """`POST /queues/take-in`. A repeat would count only what the first call left."""
    from laneway.schemas.maintenance import TakeInResponse

    body = {"queue": queue}
    return Call("POST", "/queues/take-in", adapter(TakeInResponse), body, waiting=100, repeatable=False)


def clean_up(request: CleanupRequest) -> Call[CleanupResponse]:
    """`POST /cleanup`. A repeat would count only what the first call left."""
    from laneway.schemas.maintenance import CleanupResponse

    body = request.model_dump(mode="json")
    return Call("POST", "/cleanup", adapter(CleanupResponse), body, is_long=True, repeatable=False)


def preview_cleanup(request: CleanupRequest) -> Call[RetentionView]:
    """`GET /retention`."""
    from laneway.schemas.maintenance import RetentionView

    params = given({"tasks_older_than": request.tasks_older_than})
    return Call("GET", "/retention", adapter(RetentionView), params=params, waiting=100)


def audit_tasks(*, repair: bool) -> Call[AuditView]:
    """`GET /audit`, or `POST /audit/repair`. A repeat of the repair would count only what the first call left."""
    from laneway.schemas.audit import AuditView

    if repair:
        return Call("POST", "/audit/repair", adapter(AuditView), is_long=True, repeatable=False)
    return Call("GET", "/audit", adapter(AuditView), is_long=True)


def change_tasks(action: str, selected: TaskSelection) -> Call[TasksActionResponse]:
    """`POST /tasks/{cancel|retry|replay|reprioritise}`. A repeat would count only what the first call left."""
    from laneway.schemas.bulk import TasksActionResponse

    body = selected.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    path = f"/tasks/{part(action)}"
    return Call("POST", path, adapter(TasksActionResponse), body, waiting=100, repeatable=selected.dry_run)


def bulk_actions() -> Call[BulkActionsResponse]:
    """`GET /bulk-actions`."""
    from laneway.schemas.bulk import BulkActionsResponse

    return Call("GET", "/bulk-actions", adapter(BulkActionsResponse))


def undo_bulk_action(action: str) -> Call[UndoResponse]:
    """`POST /bulk-actions/{action}/undo`. A repeat would count only what the first call left."""
    from laneway.schemas.bulk import UndoResponse

    path = f"/bulk-actions/{part(action)}/undo"
    return Call("POST", path, adapter(UndoResponse), waiting=100, repeatable=False)
