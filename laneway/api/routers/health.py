"""Liveness and readiness of the API process."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from laneway.api.deps import ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.schemas.task import Response as ResponseModel

log = logger(__name__)

router = APIRouter(prefix="/health", tags=["health"], route_class=ThreadedRoute)


class Liveness(ResponseModel):
    """The process responds."""

    status: Literal["ok"] = "ok"


class Readiness(ResponseModel):
    """The state of each server that the process needs."""

    status: Literal["ready", "not ready"]
    broker: str
    database: str
    live_workers: int


@router.get("/live", responses={status: problems()[status] for status in (413, 500)})
async def live() -> Liveness:
    """Report that the process responds. It needs no thread, so it responds however many requests wait."""
    return Liveness()


@router.get(
    "/ready",
    responses={**problems(), 503: {"model": Readiness, "description": "The broker or the database is unavailable"}},
)
def ready(services: ServicesDep, response: Response) -> Readiness:
    """Report whether the broker and the database answer; 503 when one does not."""
    broker, database, workers = "ok", "ok", 0
    try:
        services.broker.ping()
    except PlatformError as error:
        broker = _log_and_describe(error)
    try:
        workers = services.tasks.live_workers()
    except PlatformError as error:
        database = _log_and_describe(error)
    is_ready = broker == database == "ok"
    response.status_code = 200 if is_ready else 503
    return Readiness(
        status="ready" if is_ready else "not ready", broker=broker, database=database, live_workers=workers
    )


def _log_and_describe(error: PlatformError) -> str:
    """Log the reason; return only the error's title, because a reason may name our servers."""
    log.warning("not ready", error=str(error), kind=type(error).__name__)
    return error.title
