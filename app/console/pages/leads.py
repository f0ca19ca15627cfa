"""The list of leads, and one lead with its content, its state in the CRM and its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from app.api.deps import ServicesDep
from app.api.scopes import LEADS
from app.console.shown import GROUP, PAGE, Id, Word, pages, rights, tasks_of
from app.schemas.lead import CrmState
from app.services.container import Services
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import LAST_ID
from laneway.console.rendering import PageRoute, path_of
from laneway.console.values import shown_value
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.logging import without_secrets

router = APIRouter(
    prefix="/console/leads", include_in_schema=False, route_class=PageRoute, dependencies=[requires(LEADS)]
)
navigation = (NavigationEntry("Leads", "/console/leads", "l", LEADS, GROUP),)


@router.get("", dependencies=[OnlyKnown])
async def show_leads(
    request: Request,
    services: ServicesDep,
    id: Word = "",
    state: Annotated[CrmState | Literal[""], Query()] = "",
    source: Annotated[str, Query(max_length=32, pattern=r"^[^\x00]*$")] = "",
    before: Annotated[int | None, Query(ge=0, le=LAST_ID)] = None,
) -> Response:
    """Leads, newest first. `id`: the one with this id instead."""
    if id.strip():
        return RedirectResponse(f"/console/leads/{path_of(id.strip())}", 303)
    values = partial(_list_values, services, state, source, before)
    return await pages.show(request, "leads.html", values, live=before is None)


@router.get("/{lead_id:path}", dependencies=[OnlyKnown])
async def show_lead_page(lead_id: Id, request: Request, services: ServicesDep) -> Response:
    """A lead."""
    return await pages.show(request, "lead.html", partial(_values, services, lead_id))


def _list_values(services: Services, state: CrmState | str, source: str, before: int | None) -> Mapping[str, Any]:
    selected = CrmState(state) if state else None
    page = services.leads.page(before=before, limit=PAGE, state=selected, source=source or None)
    return {
        "leads": page.leads,
        "errors": {lead.lead_id: without_secrets(lead.crm.error) for lead in page.leads},
        "next": page.next,
        "before": before,
        "given": {"state": state, "source": source},
        "states": list(CrmState),
    }


def _values(services: Services, id: str) -> Mapping[str, Any]:
    lead = services.leads.view(id)
    return {
        "lead": lead,
        "name": lead.name or lead.email or lead.company or lead.lead_id,
        "error": without_secrets(lead.crm.error),
        "fields": shown_value(lead.fields),
        "details": shown_value(lead.details),
        "may_repeat": lead.crm.state is CrmState.FAILED and current_caller().may(Scope.OPERATE),
        **tasks_of(services, f"lead_id:{id}"),
        **rights(),
    }
