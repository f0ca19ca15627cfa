"""Dead letters: list, show, requeue, discard, restore."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Query

from laneway.api.deps import ServicesDep, TaskId
from laneway.api.errors import problems
from laneway.api.routers.tasks import Short
from laneway.api.threads import ThreadedRoute
from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.operations.dead_letters import DEAD
from laneway.schemas.history import (
    BulkActionResponse,
    DeadLetterGroupsResponse,
    DeadLetterGroupView,
    DeadLetterPage,
    DeadLetterSelection,
    DeadLetterView,
)
from laneway.schemas.task import TaskState

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=ThreadedRoute)


@router.get("", responses=problems())
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
        states=_states(failed), name=name, queue=queue, tag=tag, group=group, error=error, trashed=trashed
    )
    page = services.dead_letters.page(selected, before=before, limit=limit)
    return DeadLetterPage(
        dead_letters=[dead_letter_view(run) for run in page], next=page[-1].seq if len(page) == limit else None
    )


@router.get("/groups", responses=problems())
def list_dead_letter_groups(
    services: ServicesDep, failed: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> DeadLetterGroupsResponse:
    """List groups of tasks that failed the same way, the largest group first."""
    found = services.dead_letters.groups(Filter(states=_states(failed)), limit=limit)
    return DeadLetterGroupsResponse(
        groups=[
            DeadLetterGroupView(
                group=group.group,
                name=group.name,
                error_type=group.error_type,
                error=group.error,
                count=group.count,
                first_at=group.first_at,
                last_at=group.last_at,
            )
            for group in found
        ]
    )


@router.get("/{task_id}", responses=problems(404))
def show_dead_letter(task_id: TaskId, services: ServicesDep) -> DeadLetterView:
    """Show one dead letter with payload, error and traceback."""
    return dead_letter_view(services.dead_letters.show(task_id))


@router.post("/requeue", responses=problems())
def requeue_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Send the selected dead letters to their queues again; with `dry_run` only count and list them."""
    return bulk_action_view(services.dead_letters.requeue(_selection(body), dry_run=body.dry_run))


@router.post("/discard", responses=problems())
def discard_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Move the selected dead letters to the trash; they can be restored for a day."""
    return bulk_action_view(services.dead_letters.discard(_selection(body), dry_run=body.dry_run))


@router.post("/restore", responses=problems())
def restore_dead_letters(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Take the selected dead letters out of the trash."""
    return bulk_action_view(services.dead_letters.restore(_selection(body), dry_run=body.dry_run))


def dead_letter_view(run: TaskRun) -> DeadLetterView:
    """Return the row of a task as a response."""
    return DeadLetterView(
        task_id=run.id,
        name=run.name,
        queue=run.queue,
        state=TaskState(run.state),
        payload=run.payload,
        error=run.error,
        error_type=run.error_type,
        traceback=run.traceback,
        group=run.error_group,
        worker=run.worker,
        key=run.key,
        attempts=run.attempts_before + run.attempts,
        tags=run.tags,
        accepted_at=run.accepted_at,
        finished_at=run.finished_at,
        trashed_at=run.trashed_at,
        raw=base64.b64encode(run.raw).decode() if run.raw is not None else None,
    )


def bulk_action_view(result: BulkResult[TaskRun]) -> BulkActionResponse:
    """Return what a bulk action did, as a response."""
    return BulkActionResponse(
        matched=result.matched,
        done=result.done,
        dry_run=result.dry_run,
        refused=result.refused,
        samples=[run.id for run in result.samples],
    )


def _states(failed: bool) -> tuple[TaskState, ...]:
    return DEAD if failed else (TaskState.DEAD_LETTER,)


def _selection(body: DeadLetterSelection) -> Filter:
    return Filter(
        ids=tuple(body.ids),
        states=_states(body.failed or bool(body.ids)),
        group=body.group,
        name=body.name,
        queue=body.queue,
        tag=body.tag,
        error=body.error,
    )
