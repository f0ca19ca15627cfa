"""Routes of leads: store, change, read, delete. Tasks update the CRM."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.api.deps import ServicesDep
from app.api.scopes import LEADS
from app.schemas.lead import CrmState, LeadAccepted, LeadChange, LeadPage, LeadRequest, LeadView
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.schemas.payload import Identifier

router = APIRouter(prefix="/api/leads", tags=["leads"], route_class=ThreadedRoute, dependencies=[requires(LEADS)])

LeadId = Annotated[Identifier, Path(examples=["lead-42"])]
LAST_ID = 2**63 - 1


@router.post(
    "",
    status_code=202,
    response_description="Stored; a task updates the CRM",
    responses={200: {"model": LeadAccepted, "description": "It was stored before"}, **problems(409, 429)},
)
def create_lead(body: LeadRequest, services: ServicesDep, response: Response) -> LeadAccepted:
    """Store a lead and queue its CRM update. While the broker is unreachable the status is `accepted`."""
    accepted, created = services.leads.create(body)
    response.status_code = 202 if created else 200
    return accepted


@router.get("", dependencies=[OnlyKnown], responses=problems())
def list_leads(
    services: ServicesDep,
    state: Annotated[CrmState | None, Query(description="Whether the CRM has it")] = None,
    source: Annotated[str | None, Query(min_length=1, max_length=32, pattern=r"^[^\x00]+$")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> LeadPage:
    """Leads, newest first."""
    return services.leads.page(before=before, limit=limit, state=state, source=source)


@router.get("/{lead_id}", responses=problems(404))
def show_lead(lead_id: LeadId, services: ServicesDep) -> LeadView:
    """One lead, and its state in the CRM."""
    return services.leads.view(lead_id)


@router.put(
    "/{lead_id}",
    response_description="Changed; a task updates the CRM",
    responses={
        201: {"model": LeadAccepted, "description": "Stored; a task updates the CRM"},
        **problems(404, 409, 429),
    },
)
def put_lead(lead_id: LeadId, body: LeadChange, services: ServicesDep, response: Response) -> LeadAccepted:
    """Store a lead under this id, or replace its content as its next version, and queue its CRM update.

    The same content is no change. With `version`, the lead must exist and be at that version.
    """
    accepted, created = services.leads.put(lead_id, body)
    response.status_code = 201 if created else 200
    return accepted


@router.delete("/{lead_id}", status_code=204, responses=problems(404))
def delete_lead(lead_id: LeadId, services: ServicesDep) -> None:
    """Delete a lead and cancel its waiting tasks. An external CRM keeps what it has."""
    services.leads.delete(lead_id)
