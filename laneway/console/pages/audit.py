"""The audit log: who did what to which object, with filters that live in the address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway._changes import change
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import Before, Moment, Word, moment_text
from laneway.console.rendering import PageRoute, Pages, path_of, query
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.platform import Platform
from laneway.schemas.audit_log import AuditLogView

router = APIRouter(
    prefix="/console/audit", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.ADMIN)]
)
navigation = (NavigationEntry("Audit log", "/console/audit", "a", Scope.ADMIN, "Administration"),)
pages = Pages()

PAGE: Final = 50
PATHS: Final = {
    "task": "/console/tasks/",
    "workflow": "/console/workflows/",
    "receiver": "/console/webhooks/receivers/",
}
"""Kind of an object → the address of its page, without its id."""


@router.get("", dependencies=[OnlyKnown])
async def show_audit_log(
    request: Request,
    services: ServicesDep,
    action: Word = "",
    object: Word = "",
    caller: Word = "",
    request_id: Word = "",
    since: Moment = None,
    until: Moment = None,
    before: Before = None,
) -> Response:
    """Entries, newest first. `action` is an action or its first part."""
    given = {"action": action, "object": object, "caller": caller, "request_id": request_id}
    given |= {"since": moment_text(since), "until": moment_text(until)}
    which = AuditLogFilter(
        action=action or None,
        object_id=object or None,
        caller=caller or None,
        request_id=request_id or None,
        since=clock.aware(since),
        until=clock.aware(until),
    )
    values = partial(_values, services, given, which, before)
    return await pages.show(request, "audit.html", values, live=before is None)


def _values(
    services: Platform, given: Mapping[str, str], which: AuditLogFilter, before: int | None
) -> Mapping[str, Any]:
    page = services.audit_log.scan(which, before=before, limit=PAGE)
    return {
        "entries": [_entry(each) for each in page.entries],
        "next": page.next,
        "before": before,
        "most": PAGE,
        "given": given,
        "chosen": {name: value for name, value in given.items() if value},
    }


def _entry(entry: AuditLogView) -> dict[str, Any]:
    return {"view": entry, "change": change(entry.before, entry.after), "address": _address(entry)}


def _address(entry: AuditLogView) -> str | None:
    """The page of the object; None if there is none."""
    if entry.object_id is None:
        return None
    if entry.object_kind == "queue":
        return f"/console/tasks{query({'queue': entry.object_id})}"
    path = PATHS.get(entry.object_kind)
    return path + path_of(entry.object_id) if path else None
