"""One thing with many tasks: cancel, retry, replay, another priority; and the undo of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.schemas.bulk import (
    BulkActionsResponse,
    PrioritySelection,
    TasksActionResponse,
    TaskSelection,
    UndoResponse,
)

router = APIRouter(tags=["tasks"], route_class=ThreadedRoute)

ActionId = Annotated[str, Path(min_length=1, max_length=64, pattern=NO_NULL, examples=["0f6c2d5e8a1b4c7d"])]
"""`action` of what is to be undone."""


@router.post("/tasks/cancel", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE, bound=True)])
def cancel_tasks(body: TaskSelection, services: ServicesDep) -> TasksActionResponse:
    """Cancel the selected tasks that are not over, at most 1000 a call; with `dry_run` only count and list them.

    For an hour it can be undone for those that waited.
    """
    return services.bulk_tasks.cancel(body)


@router.post("/tasks/retry", responses=problems(), dependencies=[requires(Scope.OPERATE, bound=True)])
def retry_tasks(body: TaskSelection, services: ServicesDep) -> TasksActionResponse:
    """Run the selected tasks again that are over, at most 1000 a call; with `dry_run` only count and list them."""
    return services.bulk_tasks.retry(body)


@router.post("/tasks/replay", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE, bound=True)])
def replay_tasks(body: TaskSelection, services: ServicesDep) -> TasksActionResponse:
    """Submit the selected tasks that are over once more, as new tasks with the same payloads; at most 1000 a call.

    The payload is checked by the model that the task has now. A task whose payload does not fit is refused with the
    reason, and stays as it is. For an hour it can be undone for copies that have not started.
    """
    return services.bulk_tasks.replay(body)


@router.post("/tasks/reprioritise", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE, bound=True)])
def reprioritise_tasks(body: PrioritySelection, services: ServicesDep) -> TasksActionResponse:
    """Give the selected tasks that wait another priority, at most 1000 a call. For an hour it can be undone."""
    return services.bulk_tasks.reprioritise(body)


@router.get("/bulk-actions", responses=problems(), dependencies=[requires(Scope.READ, bound=True)])
def list_bulk_actions(services: ServicesDep) -> BulkActionsResponse:
    """List the actions on many tasks of the last day, newest first, and what of them can be undone."""
    return BulkActionsResponse(actions=services.bulk_undo.listing())


@router.post(
    "/bulk-actions/{action}/undo", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE, bound=True)]
)
def undo_bulk_action(action: ActionId, services: ServicesDep) -> UndoResponse:
    """Undo an action on many tasks within an hour, at most 1000 tasks a call.

    Cancelled tasks that waited wait again; tasks that still wait get their old priority; copies that have not
    started are cancelled. Nothing undoes what has run.
    """
    return services.bulk_undo.undo(action)
