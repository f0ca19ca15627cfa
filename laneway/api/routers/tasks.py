"""Tasks by name: submit, search, show, follow, signal, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep, TaskId
from laneway.api.errors import problems
from laneway.api.parameters import LAST_ID, Short, Timestamp
from laneway.api.threads import ThreadedRoute, read_in_thread
from laneway.api.waiting import PlaceDep, hold_place
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.platform.history.task_views import describe_attempt, describe_event
from laneway.platform.platform import Platform
from laneway.platform.registry import registry
from laneway.platform.submission.outside import outside_submission
from laneway.platform.submission.requests import with_present_name
from laneway.schemas.choices import ClearableState
from laneway.schemas.history import (
    A_YEAR,
    BatchResponse,
    ClearResponse,
    OpenAlertView,
    StatsResponse,
    TaskBatch,
    TaskRequest,
)
from laneway.schemas.statistics import LONGEST_WINDOW, Window
from laneway.schemas.task import (
    FINISHED,
    STOPPING,
    AttemptView,
    CancelResponse,
    TaskDetails,
    TaskHandle,
    TaskPage,
    TaskState,
)
from laneway.schemas.task_signal import TaskSignalRequest, TaskSignalResponse
from laneway.schemas.waiting import WhyResponse
from laneway.schemas.worker import TaskNamesResponse, TaskNameView, WorkersResponse

router = APIRouter(tags=["tasks"], route_class=ThreadedRoute)

SignalName = Annotated[str, Path(min_length=1, max_length=100, pattern=NO_NULL, examples=["approve"])]
SignalBody = Annotated[TaskSignalRequest, Body()]
WITHOUT_DATA: Final = TaskSignalRequest()
"""Used for a request without a body."""
LONGEST_WAIT = 60
"""Seconds that a request may wait for the end of a task."""
LONGEST_AGE = 100 * A_YEAR
RECONNECT_MS: Final = 1000
"""When a follower is to connect again after that."""
POLL_SECONDS = 5.0
"""Seconds after which an event stream reads the history again, even without a wake-up."""


OtherSpelling = Annotated[Short, Query(description="Another spelling of `name`; `name` goes first")]


@router.post(
    "/tasks",
    status_code=202,
    response_description="Accepted",
    responses={200: {"model": TaskHandle, "description": "Already accepted"}, **problems(404, 409, 429)},
    dependencies=[requires(Scope.SUBMIT, single=True, bound=True)],
)
def submit_task(
    body: TaskRequest,
    services: ServicesDep,
    response: Response,
    forecast: Annotated[bool, Query(description="Also say when it will probably start and end")] = False,
) -> TaskHandle:
    """Submit a task of any name."""
    submission = outside_submission(body)
    handle = services.tasks.submit(submission.task, submission.payload, options=submission.options)
    response.status_code = 202 if handle.created else 200
    handle = with_present_name(handle, body.task)
    return services.tasks.with_forecast(handle) if forecast else handle


@router.post(
    "/tasks/batch",
    status_code=202,
    response_description="Accepted",
    responses=problems(404, 409, 429),
    dependencies=[requires(Scope.SUBMIT, single=True, bound=True)],
)
def submit_tasks(body: TaskBatch, services: ServicesDep) -> BatchResponse:
    """Submit many tasks in one transaction: all are accepted, or none. The error is that of the first refused task.

    A batch supports neither uniqueness nor a durability other than memory.
    """
    accepted = services.tasks.submit_many([outside_submission(request) for request in body.tasks])
    handles = list(map(with_present_name, accepted, (request.task for request in body.tasks)))
    return BatchResponse(tasks=handles, created=sum(handle.created for handle in handles))


@router.get("/tasks", dependencies=[requires(Scope.READ, bound=True), OnlyKnown], responses=problems())
def search_tasks(
    services: ServicesDep,
    state: Annotated[list[TaskState] | None, Query()] = None,
    name: Annotated[Short, Query(description="The task's name")] = None,
    type: OtherSpelling = None,
    queue: Short = None,
    key: Short = None,
    tag: Short = None,
    batch: Annotated[Short, Query(description="The id of a batch")] = None,
    error: Annotated[Short, Query(description="A part of the error's text")] = None,
    since: Annotated[Timestamp | None, Query(description="Accepted at this time or later")] = None,
    until: Annotated[Timestamp | None, Query(description="Accepted before this time")] = None,
    ended_since: Annotated[Timestamp | None, Query(description="Ended at this time or later")] = None,
    ended_until: Annotated[Timestamp | None, Query(description="Ended before this time")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> TaskPage:
    """Search tasks, newest first."""
    selected = Filter(
        states=tuple(state or ()),
        name=name or type,
        queue=queue,
        key=key,
        tag=tag,
        batch=batch,
        error=error,
        since=clock.aware(since),
        until=clock.aware(until),
        ended_since=clock.aware(ended_since),
        ended_until=clock.aware(ended_until),
    )
    tasks, following = services.tasks.search(selected, before=before, limit=limit)
    return TaskPage(tasks=tasks, next=following)


@router.get("/tasks/{task_id}", responses=problems(404, 410, 429), dependencies=[requires(Scope.READ, bound=True)])
async def show_task(
    task_id: TaskId,
    services: ServicesDep,
    place: PlaceDep,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Answer when the task is over, or after so many seconds")
    ] = 0,
) -> TaskDetails:
    """Show one task: payload, state, progress, result or error, attempts, queue, times, and why it waits."""
    if wait:
        with place():
            await _until_over(task_id, services, wait)
    return await read_in_thread(services.tasks.status, task_id)


@router.get("/tasks/{task_id}/why", responses=problems(404, 410), dependencies=[requires(Scope.READ, bound=True)])
def explain_waiting(task_id: TaskId, services: ServicesDep) -> WhyResponse:
    """Say why a task waits: every cause that holds, the strongest first; and when it will probably start and end."""
    return services.tasks.why(task_id)


async def _until_over(task_id: str, services: Platform, seconds: float) -> None:
    """Wait until a task is over, at most so many seconds. Raises UnknownTask."""
    loop, wakeup = asyncio.get_running_loop(), asyncio.Event()
    deadline = loop.time() + seconds
    with services.event_stream.subscribe(task_id, partial(loop.call_soon_threadsafe, wakeup.set)):
        while (await read_in_thread(services.tasks.current, task_id)).state not in FINISHED:
            if (left := deadline - loop.time()) <= 0 or services.event_stream.stopped:
                return
            await _wait_for_wakeup(wakeup, min(left, POLL_SECONDS))
            wakeup.clear()


@router.delete("/tasks", dependencies=[requires(Scope.DELETE), OnlyKnown], responses=problems())
def clear_tasks(
    services: ServicesDep,
    older_than: Annotated[
        float, Query(ge=0, le=LONGEST_AGE, description="Delete tasks that ended more than this many seconds ago")
    ],
    state: Annotated[
        list[ClearableState] | None, Query(description="Only tasks in these final states. Default: completed")
    ] = None,
) -> ClearResponse:
    """Delete old finished tasks with their history. `more`: the call reached its limit, and some may be left."""
    states = [TaskState(final.value) for final in state or (ClearableState.COMPLETED,)]
    return services.retention.clear(states, older_than=older_than)


@router.delete(
    "/tasks/{task_id}", status_code=204, responses=problems(404, 409), dependencies=[requires(Scope.DELETE, bound=True)]
)
def delete_task(task_id: TaskId, services: ServicesDep) -> None:
    """Delete a finished task with its history. A waiting task is cancelled first; a running task returns 409."""
    services.tasks.delete(task_id)


@router.post(
    "/tasks/{task_id}/cancel", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE, bound=True)]
)
def cancel_task(task_id: TaskId, services: ServicesDep) -> CancelResponse:
    """Cancel a task. A waiting task never runs; a running task is asked to stop, and interrupted if it does not."""
    return services.tasks.cancel(task_id)


@router.post(
    "/tasks/{task_id}/retry",
    status_code=202,
    responses=problems(404, 409),
    dependencies=[requires(Scope.OPERATE, bound=True)],
)
def retry_task(task_id: TaskId, services: ServicesDep) -> TaskHandle:
    """Run a finished task again, as a new attempt of the same task."""
    return services.tasks.retry(task_id)


@router.post(
    "/tasks/{task_id}/signals/{name}",
    status_code=202,
    responses=problems(404, 409),
    dependencies=[requires(Scope.OPERATE, bound=True)],
)
def signal_task(
    task_id: TaskId, name: SignalName, services: ServicesDep, body: SignalBody = WITHOUT_DATA
) -> TaskSignalResponse:
    """Send a signal. It is kept until the task waits for it. Sending the same signal again changes nothing."""
    return services.tasks.signal(task_id, name, body.data, key=body.id or "")


@router.get("/tasks/{task_id}/attempts", responses=problems(404), dependencies=[requires(Scope.READ, bound=True)])
def list_attempts(task_id: TaskId, services: ServicesDep) -> list[AttemptView]:
    """List the attempts of a task: worker, times, outcome, error."""
    return [describe_attempt(attempt) for attempt in services.event_stream.attempts(task_id)]


async def _require_task(task_id: TaskId, services: ServicesDep) -> None:
    await read_in_thread(services.tasks.current, task_id)


@router.get(
    "/tasks/{task_id}/events",
    response_class=EventSourceResponse,
    dependencies=[requires(Scope.READ, bound=True), Depends(_require_task), Depends(hold_place)],
    responses=problems(404, 429),
)
async def follow_task(
    task_id: TaskId,
    services: ServicesDep,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    follow: Annotated[bool, Query(description="False: end after the events that exist now")] = True,
    after: Annotated[int, Query(ge=0, le=LAST_ID, description="As `Last-Event-ID`, which goes first")] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the task's events (server-sent events): progress, log lines, output, attempts, the outcome.

    The stream ends when the task ends. When the API stops, the last event is `stopping`; it has no id. A request with
    `Last-Event-ID` continues after that event.
    """
    after = min(int(last_event_id), LAST_ID) if last_event_id and last_event_id.isdecimal() else after
    loop, wakeup = asyncio.get_running_loop(), asyncio.Event()
    with services.event_stream.subscribe(task_id, partial(loop.call_soon_threadsafe, wakeup.set)):
        while True:
            wakeup.clear()
            page, ended = await read_in_thread(services.event_stream.new_events, task_id, after=after)
            for event in page:
                after = event.seq
                view = describe_event(event)
                yield ServerSentEvent(id=str(view.id), event=view.kind, data=view.model_dump(mode="json"))
            if ended or (not follow and not page):
                return
            if services.event_stream.stopped:
                yield ServerSentEvent(event=STOPPING, data={"task_id": task_id}, retry=RECONNECT_MS)
                return
            if follow:
                await _wait_for_wakeup(wakeup)


@router.get("/stats", dependencies=[requires(Scope.READ), OnlyKnown], responses=problems())
def show_statistics(
    services: ServicesDep,
    window: Annotated[float, Query(ge=1, le=LONGEST_WINDOW, description="Length of the window, in seconds")] = 3600,
    queue: Annotated[Short, Query(description="Count only this queue in the window")] = None,
    name: Annotated[Short, Query(description="Count only tasks of this name in the window")] = None,
    type: OtherSpelling = None,
) -> StatsResponse:
    """Show the queues, states, workers and unrecorded events of now, and success, throughput and times of a window."""
    return gather_stats(services, services.statistics.window(window, queue=queue, name=name or type))


def gather_stats(services: Platform, window: Window) -> StatsResponse:
    """Return the current figures, together with the statistics of a window."""
    queues = services.tasks.queues()
    return StatsResponse(
        queues=queues,
        tasks={state.value: number for state, number in services.tasks.counts().items()},
        unread_events=sum(services.recorder.unread().values()),
        unread_limit=services.settings.tasks.max_unread_events,
        workers=services.tasks.live_workers(),
        unknown_queues=services.unknown_queues.listing(),
        alerts=[OpenAlertView(message=alert.message, opened_at=alert.opened_at) for alert in services.alerts.listing()],
        timestamp=clock.now(),
        window=window,
    )


@router.get("/workers", responses=problems(), dependencies=[requires(Scope.READ)])
def list_workers(services: ServicesDep) -> WorkersResponse:
    """List the workers: version, host, queues, running tasks, start and last report."""
    return WorkersResponse(workers=services.tasks.workers())


@router.get("/task-names", responses=problems(), dependencies=[requires(Scope.READ, bound=True)])
def list_task_names() -> TaskNamesResponse:
    """List the tasks that can be submitted, each with its queue."""
    names = [name for name in sorted(registry) if not registry.is_internal(name)]
    return TaskNamesResponse(names=[TaskNameView(name=name, queue=registry[name].queue) for name in names])


async def _wait_for_wakeup(wakeup: asyncio.Event, seconds: float = POLL_SECONDS) -> None:
    try:
        await asyncio.wait_for(wakeup.wait(), seconds)
    except TimeoutError:
        return
