"""What operators do with many tasks at once: flush queues, take tasks in, clean up, audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.long_answers import answer_when_done
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.operations import operator_actions
from laneway.schemas.audit import AuditView
from laneway.schemas.maintenance import (
    CleanupRequest,
    CleanupResponse,
    FlushRequest,
    FlushResponse,
    RetentionView,
    TakeInRequest,
    TakeInResponse,
)
from laneway.schemas.overlap import A_CENTURY

router = APIRouter(tags=["maintenance"], route_class=ThreadedRoute, dependencies=[requires(Scope.ADMIN)])


@router.post("/queues/flush", responses=problems(404))
def flush_queue(body: FlushRequest, services: ServicesDep) -> FlushResponse:
    """Cancel all waiting tasks of a queue; running tasks go on. With `dry_run` only count them.

    It also empties a queue of the broker that the application does not declare.
    """
    return operator_actions.flush(services, body.queue, dry_run=body.dry_run)


@router.post("/queues/take-in", responses=problems())
def take_in_tasks(body: TakeInRequest, services: ServicesDep) -> TakeInResponse:
    """Queue the tasks that other programs have sent under a name that is no queue of this platform.

    Each registered task goes to the queue of its declaration; the others stay where they are.
    """
    return TakeInResponse(taken=operator_actions.take_in(services, body.queue))


@router.post("/cleanup", response_model=CleanupResponse, responses=problems())
async def clean_up(body: CleanupRequest, services: ServicesDep, request: Request) -> Response:
    """Delete all data that is older than its retention period, now. Workers do the same on a schedule.

    It may take minutes: spaces come before the answer then.
    """
    return await answer_when_done(
        request,
        lambda between: operator_actions.clean_up(services, tasks_older_than=body.tasks_older_than, between=between),
    )


@router.get("/retention", dependencies=[OnlyKnown], responses=problems())
def preview_cleanup(
    services: ServicesDep,
    tasks_older_than: Annotated[
        float | None, Query(ge=0, le=A_CENTURY, description="As for `POST /cleanup`: seconds since the tasks ended")
    ] = None,
) -> RetentionView:
    """Show which rule says how long which tasks are kept, and how many `POST /cleanup` would delete now."""
    return operator_actions.preview_cleanup(services, tasks_older_than=tasks_older_than)


@router.get("/audit", dependencies=[OnlyKnown], response_model=AuditView, responses=problems())
async def audit_tasks(services: ServicesDep, request: Request) -> Response:
    """Count all tasks that were ever accepted, and name those that are missing, in history, engine and results.

    It may take minutes: spaces come before the answer then.
    """
    return await answer_when_done(
        request, lambda between: operator_actions.audit(services, repair=False, between=between)
    )


@router.post("/audit/repair", response_model=AuditView, responses=problems())
async def repair_tasks(services: ServicesDep, request: Request) -> Response:
    """Audit, settle what differs, send missing tasks again, and restore missing results.

    It may take minutes: spaces come before the answer then. If it is interrupted, repeat it.
    """
    return await answer_when_done(
        request, lambda between: operator_actions.audit(services, repair=True, between=between)
    )
