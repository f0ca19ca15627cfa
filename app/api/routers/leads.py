"""Leads: store, change, look up, delete; the CRM is told by tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.api.deps import ServicesDep
from app.schemas.lead import CrmState, LeadAccepted, LeadChange, LeadPage, LeadRequest, LeadView
from laneway.api.deps import OnlyKnown
from laneway.api.errors import problems
from laneway.platform.payload import Identifier

router = APIRouter(prefix="/api/leads", tags=["leads"])

LeadId = Annotated[Identifier, Path(examples=["lead-42"])]
LAST_ID = 2**63 - 1


@router.post(
    "",
    status_code=202,
    response_description="Stored; a task tells the CRM",
    responses={200: {"model": LeadAccepted, "description": "It had been stored before"}, **problems(409, 429)},
)
def create(body: LeadRequest, services: ServicesDep, response: Response) -> LeadAccepted:
    """Store a lead, and queue that the CRM is told of it; with the broker away its status is `accepted`."""
    accepted, created = services.leads.create(body)
    response.status_code = 202 if created else 200
    return accepted


@router.get("", dependencies=[OnlyKnown], responses=problems())
def listing(
    services: ServicesDep,
    state: Annotated[CrmState | None, Query(description="What the CRM knows of it")] = None,
    source: Annotated[str | None, Query(min_length=1, max_length=32, pattern=r"^[^\x00]+$")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST_ID, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> LeadPage:
    """Leads, newest first."""
    return services.leads.page(before=before, limit=limit, state=state, source=source)


@router.get("/{lead_id}", responses=problems(404))
def lead(lead_id: LeadId, services: ServicesDep) -> LeadView:
    """One lead, and what the CRM was told of it."""
    return services.leads.view(lead_id)


@router.put(
    "/{lead_id}",
    status_code=202,
    response_description="Stored; a task tells the CRM",
    responses=problems(404, 409, 429),
)
def change(lead_id: LeadId, body: LeadChange, services: ServicesDep) -> LeadAccepted:
    """Replace a lead's content, as its next version, and queue that the CRM is told; the same again is no change."""
    return services.leads.change(lead_id, body)


@router.delete("/{lead_id}", status_code=204, responses=problems(404))
def delete(lead_id: LeadId, services: ServicesDep) -> None:
    """Delete a lead and cancel its waiting tasks. A CRM of somebody else's keeps what it was told."""
    services.leads.delete(lead_id)
