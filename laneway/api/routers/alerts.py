"""Alerts: list them, and try their receivers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.schemas.alert import AlertsResponse, AlertTestResponse

router = APIRouter(prefix="/alerts", tags=["alerts"], route_class=ThreadedRoute)


@router.get("", responses=problems(), dependencies=[requires(Scope.READ), OnlyKnown])
def list_alerts(
    services: ServicesDep, closed: Annotated[bool, Query(description="Also the alerts that are over")] = False
) -> AlertsResponse:
    """List the alerts of the last sweep, newest first, at most 200: what is wrong, and what to do."""
    return AlertsResponse(alerts=services.alerts.views(closed=closed))


@router.post("/test", responses=problems(409), dependencies=[requires(Scope.OPERATE)])
def try_receivers(services: ServicesDep) -> AlertTestResponse:
    """Send a test notice to each receiver in `ALERT_RECEIVERS`, and return what it answered.

    It takes a few seconds, at most 45. Returns 503 without receivers, and 409 while a test runs.
    """
    return AlertTestResponse(receivers=services.receivers.test())
