"""The metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from laneway.api.access import requires
from laneway.api.deps import ServicesDep
from laneway.api.errors import problems
from laneway.api.event_loop_lag import longest_lag
from laneway.api.exposition import CONTENT_TYPE, exposition
from laneway.api.threads import read_in_thread
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    response_class=Response,
    responses=problems(),
    dependencies=[requires(Scope.READ)],
)
async def show_metrics(services: ServicesDep) -> Response:
    """Show the figures of queues, tasks, workers, broker and database in the OpenMetrics text format.

    Every process of the API gives the same answer, but for its own latencies and the lag of its event loop. If the
    broker or the database does not answer, its figures are missing, and `laneway_broker_up` or `laneway_database_up` is
    0.
    """
    text = await read_in_thread(_text, services, longest_lag())
    return Response(text, media_type=CONTENT_TYPE)


def _text(platform: Platform, lag: float | None) -> bytes:
    return exposition(platform.metrics.read(), event_loop_lag=lag)
