"""Dead letters: list, show, requeue, discard, restore."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from laneway.api.access import requires
from laneway.api.deps import ServicesDep, TaskId
from laneway.api.errors import problems
from laneway.api.parameters import Short
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.platform.operations.dead_letter_views import (
    bulk_action_view,
    dead_letter_view,
    group_view,
    part_of,
    selection_of,
    states_of,
)
from laneway.schemas.history import (
    BulkActionResponse,
    DeadLetterGroupsResponse,
    DeadLetterPage,
    DeadLetterSelection,
    DeadLetterView,
)

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=ThreadedRoute)


@router.get("", responses=problems(), dependencies=[requires(Scope.READ, bound=True)])
def list_dead_letters(
    services: ServicesDep,
    name: Short = None,
    queue: Short = None,
    tag: Short = None,
    group: Short = None,
    error: Annotated[Short, Query(description="A part of the error's text")] = None,
    failed: Annotated[bool, Query(description="Include permanent failures")] = False,
    trashed: Annotated[bool, Query(description="List the discarded dead letters instead")] = False,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeadLetterPage:
    """List dead letters, newest first."""
    selected = Filter(
        states=states_of(failed), name=name, queue=queue, tag=tag, group=group, error=error, trashed=trashed
    )
    page = services.dead_letters.page(selected, before=before, limit=limit)
    return DeadLetterPage(
        dead_letters=[dead_letter_view(run) for run in page], next=page[-1].seq if len(page) == limit else None
    )


@router.get("/groups", responses=problems(), dependencies=[requires(Scope.READ, bound=True)])
def list_dead_letter_groups(
    services: ServicesDep, failed: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> DeadLetterGroupsResponse:
    """List groups of tasks that failed the same way, the largest group first."""
    found = services.dead_letters.groups(Filter(states=states_of(failed)), limit=limit)
    return DeadLetterGroupsResponse(groups=[group_view(group) for group in found])


@router.get("/{task_id}", responses=problems(404), dependencies=[requires(Scope.READ, bound=True)])
def show_dead_letter(task_id: TaskId, services: ServicesDep) -> DeadLetterView:
    """Show one dead letter with payload, error and traceback."""
    return dead_letter_view(services.dead_letters.show(task_id))


@router.post("/requeue", responses=problems(), dependencies=[requires(Scope.DEAD, bound=True)])
def requeue_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Send the selected dead letters to their queues again; with `dry_run` only count and list them."""
    return bulk_action_view(services.dead_letters.requeue(selection_of(body), dry_run=body.dry_run, part=part_of(body)))


@router.post("/discard", responses=problems(), dependencies=[requires(Scope.DEAD, bound=True)])
def discard_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Move the selected dead letters to the trash; they can be restored for a day."""
    return bulk_action_view(services.dead_letters.discard(selection_of(body), dry_run=body.dry_run, part=part_of(body)))


@router.post("/restore", responses=problems(), dependencies=[requires(Scope.DEAD, bound=True)])
def restore_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Take the selected dead letters out of the trash."""
    return bulk_action_view(services.dead_letters.restore(selection_of(body), dry_run=body.dry_run, part=part_of(body)))
