"""Tasks of any type: submit, search, follow, stop, repeat."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, BeforeValidator

from laneway.api.deps import OnlyKnown, ServicesDep, TaskId
from laneway.api.errors import problems
from laneway.engine import Durability, UniqueMode
from laneway.platform import clock
from laneway.platform.db.queries.search import Filter
from laneway.platform.history.task_views import describe_attempt, describe_event
from laneway.platform.platform import Platform
from laneway.platform.queues import Priority
from laneway.platform.schemas.history import (
    A_YEAR,
    BatchResponse,
    ClearableState,
    ClearResponse,
    StatsResponse,
    TaskBatch,
    TaskRequest,
    UniqueFor,
)
from laneway.platform.schemas.moment import clamped
from laneway.platform.schemas.statistics import LONGEST_WINDOW, Window
from laneway.platform.schemas.task import AttemptView, CancelResponse, TaskHandle, TaskPage, TaskState, TaskStatus
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.outbox import Submission

router = APIRouter(tags=["tasks"])

MODES = {
    UniqueFor.START: UniqueMode.UNTIL_START,
    UniqueFor.DONE: UniqueMode.UNTIL_DONE,
    UniqueFor.TIME: UniqueMode.FOR_TIME,
}
LAST_ID = 2**63 - 1
LONGEST_AGE = 100 * A_YEAR
LONGEST_SILENCE = 5.0
"""Seconds after which a follower looks by itself."""


def _written_out(value: object) -> object:
    if isinstance(value, str) and NUMBER.match(value):
        raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")
    return value


NUMBER = re.compile(r"[\s\d.+-]+([eE][\d+-]+)?\s*$")
Written = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(clamped)]
"""A time; not a number, of which nobody can tell seconds from milliseconds."""
Short = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


@router.post(
    "/tasks",
    status_code=202,
    response_description="Accepted",
    responses={200: {"model": TaskHandle, "description": "It had been accepted before"}, **problems(404, 409, 429)},
)
def submit(body: TaskRequest, services: ServicesDep, response: Response) -> TaskHandle:
    """Accept a task of any type."""
    handle = services.tasks.submit(body.task, body.payload, options=_wish(body))
    response.status_code = 202 if handle.created else 200
    return handle


@router.post("/tasks/batch", status_code=202, response_description="Accepted", responses=problems(404, 409, 429))
def submit_many(body: TaskBatch, services: ServicesDep) -> BatchResponse:
    """Accept many tasks in one transaction, all or none; an error tells of the first that cannot be accepted.

    Uniqueness, and a durability other than memory, cannot be asked for here.
    """
    submissions = [Submission(one.task, one.payload, _wish(one)) for one in body.tasks]
    with services.tasks.transaction(bounded=True) as unit:
        unit.submit_many(submissions)
    return BatchResponse(tasks=unit.handles, created=sum(handle.created for handle in unit.handles))


@router.get("/tasks", dependencies=[OnlyKnown], responses=problems())
def search(
    services: ServicesDep,
    state: Annotated[list[TaskState] | None, Query()] = None,
    type: Annotated[Short, Query(description="The task's name")] = None,
    queue: Short = None,
    key: Short = None,
    tag: Short = None,
    error: Annotated[Short, Query(description="Part of the error's text")] = None,
    since: Annotated[Written | None, Query(description="Accepted at or after")] = None,
    until: Annotated[Written | None, Query(description="Accepted before")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> TaskPage:
    """Tasks, newest first."""
    which = Filter(
        states=tuple(state or ()),
        name=type,
        queue=queue,
        key=key,
        tag=tag,
        error=error,
        since=clock.aware(since),
        until=clock.aware(until),
    )
    tasks, following = services.tasks.search(which, before=before, limit=limit)
    return TaskPage(tasks=tasks, next=following)


@router.get("/tasks/{task_id}", responses=problems(404, 410))
def one(task_id: TaskId, services: ServicesDep) -> TaskStatus:
    """One task: state, progress, result or error, attempts, queue, times, and why it waits."""
    return services.tasks.status(task_id)


@router.delete("/tasks", dependencies=[OnlyKnown], responses=problems())
def clear(
    services: ServicesDep,
    older_than: Annotated[float, Query(ge=0, le=LONGEST_AGE, description="Seconds since they ended")],
    state: Annotated[list[ClearableState] | None, Query(description="Of these ends; else completed ones")] = None,
) -> ClearResponse:
    """Delete tasks that ended so long ago, with their history; many, but not endlessly many, in one call."""
    states = [TaskState(one.value) for one in state or (ClearableState.COMPLETED,)]
    return services.retention.clear(states, older_than=older_than)


@router.delete("/tasks/{task_id}", status_code=204, responses=problems(404, 409))
def delete(task_id: TaskId, services: ServicesDep) -> None:
    """Forget a task that is over, with its history; a waiting one is cancelled first. A running one: 409, cancel it."""
    services.tasks.delete(task_id)


@router.post("/tasks/{task_id}/cancel", responses=problems(404, 409))
def cancel(task_id: TaskId, services: ServicesDep) -> CancelResponse:
    """Stop a task: a waiting one never runs; a running one is asked to stop, and interrupted after a time of grace."""
    return services.tasks.cancel(task_id)


@router.post("/tasks/{task_id}/retry", status_code=202, responses=problems(404, 409))
def retry(task_id: TaskId, services: ServicesDep) -> TaskHandle:
    """Run a task again that is over, as a new attempt of the same record."""
    return services.tasks.retry(task_id)


@router.get("/tasks/{task_id}/attempts", responses=problems(404))
def attempts(task_id: TaskId, services: ServicesDep) -> list[AttemptView]:
    """Each attempt: worker, times, outcome, error."""
    return [describe_attempt(attempt) for attempt in services.event_stream.attempts(task_id)]


def _known(task_id: TaskId, services: ServicesDep) -> None:
    services.tasks.current(task_id)


@router.get(
    "/tasks/{task_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_known)],
    responses=problems(404),
)
async def events(
    task_id: TaskId, services: ServicesDep, last_event_id: Annotated[str | None, Header(max_length=20)] = None
) -> AsyncIterator[ServerSentEvent]:
    """The task's story as it goes on (server-sent events): progress, its log lines, attempts, the outcome.

    Ends when the task is over. `Last-Event-ID` goes on behind that event.
    """
    after = min(int(last_event_id), LAST_ID) if last_event_id and last_event_id.isdecimal() else 0
    loop, bell = asyncio.get_running_loop(), asyncio.Event()
    with services.event_stream.subscribe(task_id, partial(loop.call_soon_threadsafe, bell.set)):
        while True:
            bell.clear()
            page, over = await run_sync(partial(services.event_stream.new_events, task_id, after=after))
            for event in page:
                after = event.seq
                view = describe_event(event)
                yield ServerSentEvent(id=str(view.id), event=view.kind, data=view.model_dump(mode="json"))
            if over:
                return
            await _rung(bell)


@router.get("/stats", dependencies=[OnlyKnown], responses=problems())
def stats(
    services: ServicesDep,
    window: Annotated[float, Query(ge=1, le=LONGEST_WINDOW, description="Seconds up to now")] = 3600,
    queue: Annotated[Short, Query(description="In the window this queue only")] = None,
    type: Annotated[Short, Query(description="In the window this task only, by its name")] = None,
) -> StatsResponse:
    """Queues, states, workers, how far the history is behind; and of the window success, throughput and times."""
    return gather_stats(services, services.statistics.window(window, queue=queue, name=type))


def gather_stats(services: Platform, window: Window) -> StatsResponse:
    """Everything at one moment."""
    queues = services.tasks.queues()
    return StatsResponse(
        queues=queues,
        tasks={state.value: number for state, number in services.tasks.counts().items()},
        unread_events=sum(services.recorder.unread().values()),
        unread_limit=services.settings.tasks.max_unread_events,
        workers=services.tasks.live_workers(),
        timestamp=clock.now(),
        window=window,
    )


async def _rung(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), LONGEST_SILENCE)
    except TimeoutError:
        return


def _priority(body: TaskRequest) -> Priority | None:
    if isinstance(body.priority, int):
        return Priority(body.priority)
    return Priority[body.priority.name] if body.priority else None


def _wish(body: TaskRequest) -> SubmitOptions:
    unique = body.unique
    return SubmitOptions(
        id=body.id,
        idempotency_key=body.idempotency_key,
        delay=body.delay,
        expires=body.expires,
        priority=_priority(body),
        tags=tuple(body.tags),
        unique=unique.key if unique else None,
        unique_seconds=unique.seconds if unique else 0,
        unique_mode=MODES[unique.until if unique else UniqueFor.DONE],
        durability=Durability(body.durability.value),
    )
