"""Sessions of people: list them, and end all of one person."""

from __future__ import annotations

from fastapi import APIRouter

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.logins import session_views
from laneway.platform.access.scopes import Scope
from laneway.schemas.session import EndedSessions, EndSessions, SessionList

router = APIRouter(
    prefix="/sessions", tags=["sessions"], route_class=ThreadedRoute, dependencies=[requires(Scope.ADMIN)]
)


@router.get("", dependencies=[OnlyKnown], responses=problems())
def list_sessions(services: ServicesDep) -> SessionList:
    """List the sessions of people that have not ended, the latest first."""
    return SessionList(sessions=session_views(services.people.logins))


@router.post("/end", responses=problems())
def end_sessions(body: EndSessions, services: ServicesDep) -> EndedSessions:
    """End all sessions of a person. Other processes notice it within 2 seconds.

    The person can log in again as long as the settings give a role.
    """
    return EndedSessions(person=body.person, ended=services.people.logins.end_all(body.person))
