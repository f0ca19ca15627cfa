"""Dead letters: look, send again, discard, restore."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Query

from laneway.api.deps import ServicesDep, TaskId
from laneway.api.errors import problems
from laneway.api.routers.tasks import Short
from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.operations.dead_letters import DEAD
from laneway.platform.schemas.history import (
    BulkActionResponse,
    DeadLetterGroupsResponse,
    DeadLetterGroupView,
    DeadLetterPage,
    DeadLetterSelection,
    DeadLetterView,
)
from laneway.platform.schemas.task import TaskState

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


@router.get("", responses=problems())
def listing(
    services: ServicesDep,
    name: Short = None,
    queue: Short = None,
    tag: Short = None,
    group: Short = None,
    error: Annotated[Short, Query(description="Part of the error's text")] = None,
    failed: Annotated[bool, Query(description="Permanent failures, too")] = False,
    trashed: Annotated[bool, Query(description="Those that were discarded")] = False,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeadLetterPage:
    """Dead letters, newest first."""
    which = Filter(states=_states(failed), name=name, queue=queue, tag=tag, group=group, error=error, trashed=trashed)
    page = services.dead_letters.page(which, before=before, limit=limit)
    return DeadLetterPage(dead_letters=[view(run) for run in page], next=page[-1].seq if len(page) == limit else None)


@router.get("/groups", responses=problems())
def groups(
    services: ServicesDep, failed: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> DeadLetterGroupsResponse:
    """What failed the same way, the largest group first."""
    found = services.dead_letters.groups(Filter(states=_states(failed)), limit=limit)
    return DeadLetterGroupsResponse(
        groups=[
            DeadLetterGroupView(
                group=one.group,
                name=one.name,
                error_type=one.error_type,
                error=one.error,
                count=one.count,
                first_at=one.first_at,
                last_at=one.last_at,
            )
            for one in found
        ]
    )


@router.get("/{task_id}", responses=problems(404))
def show(task_id: TaskId, services: ServicesDep) -> DeadLetterView:
    """One dead letter with payload, error and traceback."""
    return view(services.dead_letters.show(task_id))


@router.post("/requeue", responses=problems())
def requeue(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Send the selected ones again; with `dry_run` say how many and which."""
    return done(services.dead_letters.requeue(_selected(body), dry_run=body.dry_run))


@router.post("/discard", responses=problems())
def discard(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Put the selected ones into the trash; they can be restored for a day."""
    return done(services.dead_letters.discard(_selected(body), dry_run=body.dry_run))


@router.post("/restore", responses=problems())
def restore(body: DeadLetterSelection, services: ServicesDep) -> BulkActionResponse:
    """Take the selected ones out of the trash."""
    return done(services.dead_letters.restore(_selected(body), dry_run=body.dry_run))


def view(run: TaskRun) -> DeadLetterView:
    """A row as callers see it."""
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


def done(plan: BulkResult[TaskRun]) -> BulkActionResponse:
    """What was done, for callers."""
    return BulkActionResponse(
        matched=plan.matched,
        done=plan.done,
        dry_run=plan.dry_run,
        refused=plan.refused,
        samples=[run.id for run in plan.samples],
    )


def _states(failed: bool) -> tuple[TaskState, ...]:
    return DEAD if failed else (TaskState.DEAD_LETTER,)


def _selected(body: DeadLetterSelection) -> Filter:
    return Filter(
        ids=tuple(body.ids),
        states=_states(body.failed or bool(body.ids)),
        group=body.group,
        name=body.name,
        queue=body.queue,
        tag=body.tag,
        error=body.error,
    )
