"""Batches: groups of tasks with callbacks at their end. Make, list, show, add tasks, close, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.parameters import LAST_ID
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.batches.requests import new_batch
from laneway.platform.submission.outside import outside_submission
from laneway.platform.submission.requests import with_present_name
from laneway.schemas.batch import BatchCancelResponse, BatchHandle, BatchPage, BatchRequest, BatchTasks, BatchView
from laneway.schemas.history import BatchResponse

router = APIRouter(prefix="/batches", tags=["batches"], route_class=ThreadedRoute)

BatchId = Annotated[str, Path(min_length=1, max_length=128, pattern=NO_NULL, examples=["invoices-2026-04"])]
Before = Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the previous page")]
MOST: int = 100
"""Batches of one page."""


@router.post(
    "",
    status_code=201,
    response_description="Made",
    responses={200: {"model": BatchHandle, "description": "Already made"}, **problems(404, 409, 429)},
    dependencies=[requires(Scope.SUBMIT, single=True)],
)
def create_batch(body: BatchRequest, services: ServicesDep, response: Response) -> BatchHandle:
    """Make a batch and submit its first tasks, in one transaction. Each callback is submitted once, at its event.

    Without `keep_open` it ends with the last of its tasks. The caller must be allowed to submit all of its tasks.
    """
    handle = services.batches.create(new_batch(body))
    response.status_code = 201 if handle.created else 200
    return handle


@router.get("", dependencies=[requires(Scope.READ), OnlyKnown], responses=problems())
def list_batches(
    services: ServicesDep,
    unfinished: Annotated[
        bool, Query(description="Only those that are open, or have tasks that have not ended")
    ] = False,
    before: Before = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
) -> BatchPage:
    """List batches with their progress, newest first."""
    batches, following = services.batches.page(before=before, limit=limit, unfinished=unfinished)
    return BatchPage(batches=batches, next=following)


@router.get("/{batch_id}", dependencies=[requires(Scope.READ)], responses=problems(404))
def show_batch(batch_id: BatchId, services: ServicesDep) -> BatchView:
    """Show one batch with its progress. `GET /tasks?batch=` lists its tasks."""
    return services.batches.view(batch_id)


@router.post(
    "/{batch_id}/tasks",
    status_code=202,
    response_description="Accepted",
    responses=problems(404, 409, 429),
    dependencies=[requires(Scope.SUBMIT, single=True)],
)
def add_batch_tasks(batch_id: BatchId, body: BatchTasks, services: ServicesDep) -> BatchResponse:
    """Submit more tasks into a batch: all are accepted, or none.

    A closed batch takes them as long as one of its tasks has not ended.
    """
    accepted = services.batches.add(batch_id, [outside_submission(request) for request in body.tasks])
    handles = list(map(with_present_name, accepted, (request.task for request in body.tasks)))
    return BatchResponse(tasks=handles, created=sum(handle.created for handle in handles))


@router.post("/{batch_id}/close", dependencies=[requires(Scope.SUBMIT)], responses=problems(404))
def close_batch(batch_id: BatchId, services: ServicesDep) -> BatchView:
    """Let an open batch end with the last of its tasks. Closing it again changes nothing."""
    return services.batches.close(batch_id)


@router.post("/{batch_id}/cancel", dependencies=[requires(Scope.OPERATE)], responses=problems(404))
def cancel_batch(batch_id: BatchId, services: ServicesDep) -> BatchCancelResponse:
    """Refuse further tasks, and cancel those that have not ended, at most 1000 a call: repeat it until `left` is 0."""
    return services.batches.cancel(batch_id)
