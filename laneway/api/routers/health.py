"""Liveness and readiness of the API process."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import Field

from laneway.api.access import public
from laneway.api.deps import ServicesDep
from laneway.api.errors import problems, public_detail
from laneway.api.threads import ThreadedRoute, answer_probe
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.operations.readiness import DegradedPart
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


class BriefReadiness(ResponseModel):
    """Whether this process accepts work, for callers without `tasks:read`."""

    status: Literal["ready", "not ready"] = Field(description="`ready`: what is accepted is stored, and is not lost")


class Readiness(BriefReadiness):
    """Whether this process accepts work, and what does not work."""

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
    responses={**problems(), 503: {"model": Readiness | BriefReadiness, "description": "Nothing can be accepted now"}},
    dependencies=[public("a probe asks; only callers with tasks:read are shown details", shows_more=True)],
)
async def show_readiness(services: ServicesDep, response: Response) -> Readiness | BriefReadiness:
    """Report whether this process can accept work: 503 when the database does not take a write.

    Everybody may ask, and learns no more than the status, which may be a second old. Callers with `tasks:read` see what
    does not work: `degraded` also names what does not keep the process from accepting work.
    """
    knows = current_caller().may(Scope.READ)
    report = await answer_probe(services.readiness.check if knows else services.readiness.recent.result)
    response.status_code = 200 if report.accepts_work else 503
    status = "ready" if report.accepts_work else "not ready"
    if not knows:
        return BriefReadiness(status=status)
    return Readiness(
        status=status,
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
