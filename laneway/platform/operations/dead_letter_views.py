"""Dead letters as callers get and select them."""

from __future__ import annotations

import base64

from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter, Group
from laneway.platform.logging import without_secrets
from laneway.platform.operations.dead_letters import DEAD, Part
from laneway.platform.sealing import shown_payload
from laneway.schemas.history import BulkActionResponse, DeadLetterGroupView, DeadLetterSelection, DeadLetterView
from laneway.schemas.task import TaskState


def dead_letter_view(run: TaskRun) -> DeadLetterView:
    """Return the row of a task as a response."""
    return DeadLetterView(
        task_id=run.id,
        name=run.name,
        queue=run.queue,
        state=TaskState(run.state),
        payload=without_secrets(shown_payload(run.payload)),
        error=without_secrets(run.error),
        error_type=run.error_type,
        traceback=without_secrets(run.traceback),
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


def group_view(group: Group) -> DeadLetterGroupView:
    """Return a group as a response."""
    return DeadLetterGroupView(
        group=group.group,
        name=group.name,
        error_type=group.error_type,
        error=without_secrets(group.error),
        count=group.count,
        first_at=group.first_at,
        last_at=group.last_at,
    )


def bulk_action_view(result: BulkResult[TaskRun]) -> BulkActionResponse:
    """Return what a bulk action did, as a response."""
    return BulkActionResponse(
        matched=result.matched,
        done=result.done,
        dry_run=result.dry_run,
        refused=result.refused,
        next=result.next,
        samples=[run.id for run in result.samples],
    )


def states_of(failed: bool) -> tuple[TaskState, ...]:
    """The states of dead letters; with `failed` also of tasks that failed permanently."""
    return DEAD if failed else (TaskState.DEAD_LETTER,)


def selection_of(body: DeadLetterSelection) -> Filter:
    """Return the filter of a request."""
    return Filter(
        ids=tuple(body.ids),
        states=states_of(body.failed or bool(body.ids)),
        group=body.group,
        name=body.name,
        queue=body.queue,
        tag=body.tag,
        error=body.error,
    )


def part_of(body: DeadLetterSelection) -> Part:
    """Return the part that a request asks for."""
    return Part(body.before, body.most)
