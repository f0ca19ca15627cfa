"""The batches with their progress, and one batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import LAST_ID
from laneway.api.routers.batches import BatchId
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform
from laneway.schemas.choices import BatchState

router = APIRouter(
    prefix="/console/batches", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Batches", "/console/batches", "b"),)
pages = Pages()

PAGE: Final = 20


@router.get("", dependencies=[OnlyKnown])
async def show_batches(
    request: Request,
    services: ServicesDep,
    unfinished: Annotated[bool, Query()] = False,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID)] = None,
) -> Response:
    """Batches, newest first."""
    values = partial(_list_values, services, unfinished, before)
    return await pages.show(request, "batches.html", values, live=before is None)


@router.get("/{batch_id}", dependencies=[OnlyKnown])
async def show_batch(batch_id: BatchId, request: Request, services: ServicesDep) -> Response:
    """One batch: progress, times, callbacks."""
    return await pages.show(request, "batch.html", partial(_values, services, batch_id))


def _list_values(services: Platform, unfinished: bool, before: int | None) -> Mapping[str, Any]:
    batches, following = services.batches.page(before=before, limit=PAGE, unfinished=unfinished)
    given = {"unfinished": "true" if unfinished else ""}
    return {"batches": batches, "next": following, "before": before, "given": given}


def _values(services: Platform, id: str) -> Mapping[str, Any]:
    batch, caller = services.batches.view(id), current_caller()
    return {
        "batch": batch,
        "may_close": batch.state is BatchState.OPEN and caller.may(Scope.SUBMIT),
        "may_cancel": batch.state in (BatchState.OPEN, BatchState.RUNNING) and caller.may(Scope.OPERATE),
    }
