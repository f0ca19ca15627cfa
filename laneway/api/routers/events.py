"""Feeds: the events of all tasks, or of a selection, as server-sent events."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.feeds import stream_feed
from laneway.api.parameters import LAST_ID, Short
from laneway.api.threads import ThreadedRoute, read_in_thread
from laneway.api.waiting import hold
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.event_feed import EventFilter
from laneway.platform.flow.queue_limits import check_declared
from laneway.schemas.choices import EventKindName

router = APIRouter(tags=["tasks"], route_class=ThreadedRoute)

EVENTS: Final = "text/event-stream"
_EXAMPLE: Final = (
    'event: end\ndata: {"id":4711,"at":"2026-11-30T12:00:00Z","kind":"end","attempt":1,'
    '"data":{"state":"completed","outcome":"completed"},"task_id":"order-17","name":"send_invoice_task",'
    '"queue":"emails","tags":["shop:7"],"workflow":null}\nid: 4711\n\n'
)
_STREAM: Final = {
    "description": "Events as they come, each with its task",
    "content": {EVENTS: {"example": _EXAMPLE}},
}


@router.get(
    "/events",
    response_class=StreamingResponse,  # FastAPI's EventSourceResponse is for functions that yield single events
    responses={200: _STREAM, **problems(404, 429)},
    dependencies=[requires(Scope.READ, bound=True), OnlyKnown],
)
async def follow_events(
    request: Request,
    services: ServicesDep,
    queue: Annotated[Short, Query(description="Only tasks of this queue")] = None,
    name: Annotated[Short, Query(description="Only tasks of this name")] = None,
    tag: Annotated[Short, Query(description="Only tasks with this tag")] = None,
    workflow: Annotated[Short, Query(description="Only tasks of this workflow run")] = None,
    batch: Annotated[Short, Query(description="Only tasks of this batch")] = None,
    kind: Annotated[
        list[EventKindName] | None,
        Query(description="Only events of these kinds. Default: all but `output`"),
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=LAST_ID, description="Begin after the event with this id; 0: with the oldest one")
    ] = None,
    last: Annotated[
        int, Query(ge=0, le=1000, description="Without `after`: begin with so many of the newest events")
    ] = 0,
    follow: Annotated[bool, Query(description="False: end after the events that exist now")] = True,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Stream the events of all tasks that the caller may see (server-sent events), or of a selection.

    Without `after` and `Last-Event-ID` the stream has the events from now on. A request with the id of the last event
    continues after it, and misses none; `Last-Event-ID`, which a browser sends by itself, goes first. An event
    `position` says where a quiet stream is. An event `gone` says that events up to the id `data.before` were deleted
    before they were sent. The stream ends after 15 minutes, and when the API stops: connect again.
    """
    if queue is not None:
        check_declared(queue)
    part: dict[str, Any] = {"queue": queue, "name": name, "tag": tag, "workflow": workflow, "batch": batch}
    which = EventFilter(caller=current_caller(), kinds=tuple(kind or ()), **part)
    begin = min(int(last_event_id), LAST_ID) if last_event_id and last_event_id.isdecimal() else after
    feed = services.event_feed
    position, missed = await read_in_thread(feed.start, which, begin, last=last)
    stream = stream_feed(feed, which, position=position, missed=missed, follow=follow)
    return StreamingResponse(hold(request, stream), media_type=EVENTS)
