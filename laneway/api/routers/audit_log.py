"""The audit log: list and verify it. Nothing changes or deletes its entries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.long_answers import Between, answer_when_done
from laneway.api.parameters import LAST_ID, Short, Timestamp
from laneway.api.threads import ThreadedRoute
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.audit_log.audit_log import expected_entry, verification_view
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.schemas.audit_log import ENTRY, AuditLogPage, AuditLogVerification

router = APIRouter(
    prefix="/audit-log", tags=["audit log"], route_class=ThreadedRoute, dependencies=[requires(Scope.ADMIN)]
)


@router.get("", dependencies=[OnlyKnown], responses=problems())
def list_audit_log(
    services: ServicesDep,
    action: Annotated[Short, Query(description="The action, or its first part: `queue` selects `queue.pause`")] = None,
    object: Annotated[Short, Query(description="The id or name of the object")] = None,
    caller: Annotated[Short, Query(description="Who did it")] = None,
    request_id: Annotated[Short, Query(description="The id of the HTTP request")] = None,
    since: Annotated[Timestamp | None, Query(description="At this time or later")] = None,
    until: Annotated[Timestamp | None, Query(description="Before this time")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> AuditLogPage:
    """List who did what to which object, newest first."""
    which = AuditLogFilter(
        action=action,
        object_id=object,
        caller=caller,
        request_id=request_id,
        since=clock.aware(since),
        until=clock.aware(until),
    )
    return services.audit_log.page(which, before=before, limit=limit)


@router.get("/verification", dependencies=[OnlyKnown], response_model=AuditLogVerification, responses=problems())
async def verify_audit_log(
    services: ServicesDep,
    request: Request,
    expected: Annotated[
        str | None,
        Query(max_length=83, pattern=ENTRY, description="Also require this entry, as number:hash of an earlier answer"),
    ] = None,
) -> Response:
    """Check that every entry is as it was written. It names the first one that is not.

    It may take minutes: spaces come before the answer then.
    """

    def check(between: Between) -> AuditLogVerification:
        return verification_view(services.audit_log.verify(expected=expected_entry(expected), between=between))

    return await answer_when_done(request, check)
