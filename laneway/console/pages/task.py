"""One task: what it was given, what it did and said, why it waits, who did what with it, and what can be done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import ServicesDep, TaskId
from laneway.console.rendering import PageRoute, Pages
from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.models import TaskRun, TaskStep
from laneway.platform.db.queries import task_events, workflows
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.history.task_views import describe_attempt, describe_event
from laneway.platform.logging import without_secrets
from laneway.platform.platform import Platform
from laneway.platform.registry import registry
from laneway.platform.sealing import shown
from laneway.schemas.task import FINISHED, AttemptView, TaskDetails, TaskState
from laneway.schemas.waiting import WhyResponse

router = APIRouter(
    prefix="/console/tasks", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
pages = Pages()

EVENTS: Final = 500
"""Newest events that are shown."""
WIDTH: Final = 1000
"""Units of the timeline."""
SHORTEST: Final = 5.0
"""Seconds of the timeline of a task that is not over."""


@router.get("/{task_id:path}")
async def show_task_page(task_id: TaskId, request: Request, services: ServicesDep) -> Response:
    """The page of a task."""
    return await pages.show(request, "task.html", partial(_values, services, task_id))


def _values(services: Platform, id: str) -> Mapping[str, Any]:
    run = services.tasks.current(id)
    with services.database.reading() as session:
        attempts = [describe_attempt(each) for each in task_events.attempts(session, id)]
        events = [describe_event(each) for each in task_events.newest_events(session, id, limit=EVENTS)]
        steps = [_step(each) for each in task_events.steps(session, id)]
        step_of = workflows.step_of_task(session, id)
    details, caller = services.tasks.details(run), current_caller()
    why = services.tasks.why(id) if details.status not in FINISHED else None
    audit = services.audit_log.page(AuditLogFilter(object_id=id)).entries if caller.may(Scope.ADMIN) else []
    return {
        "task": details,
        "why": why,
        "minute": timedelta(minutes=1),
        "expected": _expected(why) if why else "",
        "attempts": attempts,
        "bars": timeline(details, attempts, now=clock.now()),
        "events": events,
        "steps": steps,
        "workflow": step_of,
        "audit": audit,
        "is_over": details.status in FINISHED,
        "has_raw": run.raw is not None,
        "may_operate": caller.may(Scope.OPERATE),
        "may_submit": caller.may(Scope.SUBMIT) and _is_public(run),
        "may_delete": caller.may(Scope.DELETE),
        "curl": _curl(details),
        "python": _python(details),
        "traceback": without_secrets(run.traceback),
    }


def _expected(why: WhyResponse) -> str:
    """When the task will probably start and end, to the minute: an open page is not sent again each second."""
    found = why.forecast
    if found is None:
        return "" if why.no_forecast is None else f"No forecast: {why.no_forecast}"
    parts = [] if why.status is TaskState.PROCESSING else [_by("starts", found.starts_p50, found.starts_p90)]
    if found.ends_p50 is not None and found.ends_p90 is not None:
        parts.append(_by("ends", found.ends_p50, found.ends_p90))
    return f"It probably {', and '.join(parts)}." if parts else ""


def _by(what: str, half: datetime, most: datetime) -> str:
    first, last = (f"{moment + timedelta(minutes=1):%H:%M}" for moment in (half, most))
    return f"{what} by {first} UTC" + (f" (in 9 of 10 cases by {last} UTC)" if last != first else "")


def _is_public(run: TaskRun) -> bool:
    return run.name in registry and not registry.is_internal(run.name)


def _step(step: TaskStep) -> dict[str, Any]:
    return {
        "name": step.name,
        "result": without_secrets(shown(step.result)),
        "attempt": step.attempt,
        "at": step.at,
    }


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a task's time, in units of the timeline."""

    kind: str
    """The CSS classes: `wait`, or `run` and the outcome."""
    x: float
    width: float
    title: str


def timeline(task: TaskDetails, attempts: Sequence[AttemptView], *, now: datetime) -> list[Bar]:
    """Waiting and running from the acceptance to the end, to scale.

    Until the task is over, the end is a little later than now: an open page is not sent again each second.
    """
    end = task.finished_at or task.accepted_at + timedelta(seconds=_scale((now - task.accepted_at).total_seconds()))
    whole = max((end - task.accepted_at).total_seconds(), 0.001)

    def at(moment: datetime) -> float:
        return min(1.0, max(0.0, (moment - task.accepted_at).total_seconds() / whole)) * WIDTH

    bars, cursor = list[Bar](), task.accepted_at
    for attempt in attempts:
        if attempt.started_at > cursor:
            bars.append(_bar("wait", at(cursor), at(attempt.started_at), "waited", cursor, attempt.started_at))
        ended = attempt.ended_at or end
        title = f"attempt {attempt.number}: {attempt.outcome or 'running'}"
        known = attempt.ended_at or task.finished_at
        bars.append(_bar(f"run {_look(attempt)}", at(attempt.started_at), at(ended), title, attempt.started_at, known))
        cursor = ended
    if end > cursor and (not task.finished_at or not attempts):
        title = "waited" if task.finished_at else "waits"
        bars.append(_bar("wait", at(cursor), at(end), title, cursor, task.finished_at))
    return bars


def _scale(seconds: float) -> float:
    """The next one of 5 s and its powers of 1.25."""
    scale = SHORTEST
    while scale < seconds:
        scale *= 1.25
    return scale


def _look(attempt: AttemptView) -> str:
    if attempt.outcome in (None, "completed"):
        return attempt.outcome or "open"
    return "failed"


def _bar(kind: str, start: float, end: float, title: str, began: datetime, ended: datetime | None) -> Bar:
    """`ended`: None: it goes on."""
    when = f"{(ended - began).total_seconds():.3f} s" if ended else f"since {began:%H:%M:%S} UTC"
    return Bar(kind, round(start, 2), round(max(2.0, end - start), 2), f"{title}, {when}")


def _request(task: TaskDetails) -> dict[str, Any]:
    return {"name": task.name, "payload": task.payload}


def _curl(task: TaskDetails) -> str:
    body = json.dumps(_request(task), ensure_ascii=False).replace("'", "'\\''")
    return f"curl -X POST \"$LANEWAY_URL/tasks\" -H 'Content-Type: application/json' -d '{body}'"


def _python(task: TaskDetails) -> str:
    return (
        "from laneway.client import Client\n\n"
        f"with Client() as client:\n    client.submit({task.name!r}, {task.payload!r})\n"
    )
