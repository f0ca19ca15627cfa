"""Liveness and readiness of the API process."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import Field

from laneway.api.access import public, requires
from laneway.api.deps import ServicesDep
from laneway.api.errors import problems, public_detail
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.operations.readiness import DegradedPart, check_readiness
from laneway.schemas.task import Response as ResponseModel

log = logger(__name__)

router = APIRouter(prefix="/health", tags=["health"], route_class=ThreadedRoute)


class Liveness(ResponseModel):
    """The process responds."""

    status: Literal["ok"] = "ok"


class DegradedPartView(ResponseModel):
    """A part of the platform that does not work."""

    part: str = Field(examples=["broker"])
    problem: str = Field(description="What does not work, and what follows from it")


class Readiness(ResponseModel):
    """Whether this process accepts work, and what does not work."""

    status: Literal["ready", "not ready"] = Field(description="`ready`: what is submitted is stored, and is not lost")
    installation: str | None = Field(description="The id of the installation; null while the database cannot be used")
    broker: str = Field(description="`ok`, or what is wrong. Without the broker, accepted tasks wait in the database")
    database: str = Field(description="`ok`, or what is wrong")
    live_workers: int
    degraded: list[DegradedPartView] = Field(description="The parts that do not work; empty if everything does")


@router.get(
    "/live",
    responses={status: problems()[status] for status in (413, 500)},
    dependencies=[public("a probe asks only whether the process answers")],
)
async def show_liveness() -> Liveness:
    """Report that the process responds. It needs no thread, so it responds however many requests wait."""
    return Liveness()


@router.get(
    "/ready",
    responses={**problems(), 503: {"model": Readiness, "description": "Nothing can be accepted now"}},
    dependencies=[requires(Scope.READ, bound=True)],
)
def show_readiness(services: ServicesDep, response: Response) -> Readiness:
    """Report whether this process can accept work: 503 when the database does not take a write.

    What does not work and does not keep it from accepting work is named in `degraded`.
    """
    report = check_readiness(
        services.database,
        services.broker,
        installation=services.installation,
        definitions=services.workflow_definitions,
    )
    response.status_code = 200 if report.accepts_work else 503
    return Readiness(
        status="ready" if report.accepts_work else "not ready",
        installation=report.installation,
        broker=_state(report.broker),
        database=_state(report.database),
        live_workers=report.live_workers,
        degraded=[DegradedPartView(part=each.part, problem=_problem(each)) for each in report.degraded],
    )


def _state(error: PlatformError | None) -> str:
    return "ok" if error is None else error.title


def _problem(degraded: DegradedPart) -> str:
    """Log the reason; return what the caller may read, because a reason may name our servers."""
    if degraded.error is None:
        return degraded.problem
    log.warning("degraded", part=degraded.part, error=str(degraded.error), kind=type(degraded.error).__name__)
    return f"{public_detail(degraded.error)} {degraded.problem}"
