"""The list of tasks, with filters that live in the address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.threads import read_in_thread
from laneway.console.parameters import Before, Moment, Word, moment_text
from laneway.console.rendering import PageRoute, Pages, path_of, query
from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import UnknownTask
from laneway.platform.platform import Platform
from laneway.platform.queues import Lane
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.schemas.choices import PriorityName
from laneway.schemas.task import FINISHED, UNFINISHED, TaskState

router = APIRouter(
    prefix="/console/tasks", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Tasks", "/console/tasks", "t"),)
pages = Pages()

PAGE: Final = 50
GROUPS: Final[dict[str, tuple[TaskState, ...]]] = {
    "waiting": (TaskState.ACCEPTED, TaskState.PENDING),
    "unfinished": UNFINISHED,
    "finished": FINISHED,
    "failures": (TaskState.FAILED, TaskState.DEAD_LETTER),
}
"""Names for several states."""


@router.get("", dependencies=[OnlyKnown])
async def show_tasks(
    request: Request,
    services: ServicesDep,
    q: Word = "",
    state: Annotated[list[TaskState] | None, Query()] = None,
    name: Word = "",
    queue: Word = "",
    lane: Literal["", "high", "medium", "low"] = "",
    tag: Word = "",
    batch: Word = "",
    key: Word = "",
    group: Word = "",
    error: Word = "",
    text: Word = "",
    since: Moment = None,
    until: Moment = None,
    ended_since: Moment = None,
    ended_until: Moment = None,
    before: Before = None,
) -> Response:
    """Tasks, newest first. `q` is the id of a task, which is shown then, or a text."""
    if q:
        return RedirectResponse(await read_in_thread(_address_of, services, q.strip()), 303)
    given: dict[str, Any] = {"state": [each.value for each in state or ()], "lane": lane}
    given |= {
        "name": name,
        "queue": queue,
        "tag": tag,
        "batch": batch,
        "key": key,
        "group": group,
        "error": error,
        "text": text,
    }
    times = {"since": since, "until": until, "ended_since": ended_since, "ended_until": ended_until}
    given |= {field: moment_text(moment) for field, moment in times.items()}
    values = partial(_values, services, given, _filter(given, state or (), times), before)
    return await pages.show(request, "tasks.html", values, live=before is None)


def _address_of(services: Platform, searched: str) -> str:
    """The page of a task with this id, or the list of tasks with this text."""
    try:
        services.tasks.current(searched)
    except UnknownTask:
        return f"/console/tasks{query({'text': searched})}"
    return f"/console/tasks/{path_of(searched)}"


def _filter(given: Mapping[str, Any], states: Sequence[TaskState], times: Mapping[str, datetime | None]) -> Filter:
    return Filter(
        states=tuple(states),
        name=given["name"] or None,
        queue=given["queue"] or None,
        queues=_queues_of(given["lane"]),
        tag=given["tag"] or None,
        batch=given["batch"] or None,
        key=given["key"] or None,
        group=given["group"] or None,
        error=given["error"] or None,
        text=given["text"] or None,
        since=clock.aware(times["since"]),
        until=clock.aware(times["until"]),
        ended_since=clock.aware(times["ended_since"]),
        ended_until=clock.aware(times["ended_until"]),
    )


def _queues_of(lane: str) -> tuple[str, ...]:
    """The queues of a lane; a lane without a queue selects none."""
    return tuple(queue for queue, of in declared.items() if of == Lane(lane)) or ("",) if lane else ()


def _values(services: Platform, given: Mapping[str, Any], selected: Filter, before: int | None) -> Mapping[str, Any]:
    tasks, following = services.tasks.scan(selected, before=before, limit=PAGE)
    chosen = {name: value for name, value in given.items() if value}
    return {
        "tasks": tasks,
        "next": following,
        "before": before,
        "given": given,
        "chosen": chosen,
        "states": list(TaskState),
        "groups": {name: [state.value for state in states] for name, states in GROUPS.items()},
        "names": [name for name in sorted(registry) if not registry.is_internal(name)],
        "queues": list(declared),
        "lanes": list(Lane),
        "priorities": [name.value for name in PriorityName],
        "selection": _selection(chosen),
        "may_operate": current_caller().may(Scope.OPERATE),
        "searches_text": bool(given["text"] or given["error"]),
    }


def _selection(chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same filter as the body of a bulk action; None if that cannot express it."""
    if not chosen or "lane" in chosen:
        return None
    return dict(chosen)
