"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from laneway.api.deps import ServicesDep
from laneway.api.errors import problems
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.schemas.task import Response as ResponseModel

log = logger(__name__)

router = APIRouter(prefix="/health", tags=["health"])


class Liveness(ResponseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


class Readiness(ResponseModel):
    """What this process needs, and whether it is there."""

    status: Literal["ready", "not ready"]
    broker: str
    database: str
    live_workers: int


@router.get("/live", responses={status: problems()[status] for status in (413, 500)})
def live() -> Liveness:
    """This process answers."""
    return Liveness()


@router.get("/ready", responses={**problems(), 503: {"model": Readiness, "description": "Something is away"}})
def ready(services: ServicesDep, response: Response) -> Readiness:
    """Whether the broker and the database answer; 503 when one does not."""
    broker, database, workers = "ok", "ok", 0
    try:
        services.broker.ping()
    except PlatformError as error:
        broker = _said(error)
    try:
        workers = services.tasks.live_workers()
    except PlatformError as error:
        database = _said(error)
    fine = broker == database == "ok"
    response.status_code = 200 if fine else 503
    return Readiness(status="ready" if fine else "not ready", broker=broker, database=database, live_workers=workers)


def _said(error: PlatformError) -> str:
    """What is away, for everybody; why, for the logs."""
    log.warning("not ready", error=str(error), kind=type(error).__name__)
    return error.title
