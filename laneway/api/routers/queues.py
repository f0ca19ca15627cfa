"""Limits of queues: rates, tasks in flight, pauses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.bounds import require_queue
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.schemas.queue import QueueLimits, QueueLimitsListResponse, QueueLimitsResponse

router = APIRouter(tags=["queues"], route_class=ThreadedRoute)

QueueName = Annotated[str, Path(min_length=1, max_length=64, pattern=NO_NULL, examples=["emails"])]


@router.get("/queues", responses=problems(), dependencies=[requires(Scope.READ)])
def list_queues(services: ServicesDep) -> QueueLimitsListResponse:
    """List the queues with their limits, and the queues of the broker that the application does not declare."""
    return QueueLimitsListResponse(queues=services.queue_limits.listing(), unknown=services.unknown_queues.listing())


@router.get("/queues/{queue}/limits", responses=problems(404), dependencies=[requires(Scope.READ, bound=True)])
def show_queue_limits(queue: QueueName, services: ServicesDep) -> QueueLimitsResponse:
    """Show the limits of a queue. An unknown queue returns 404 with the names of the queues."""
    require_queue(current_caller(), queue)
    return services.queue_limits.of(queue)


@router.put("/queues/{queue}/limits", responses=problems(404), dependencies=[requires(Scope.QUEUES, bound=True)])
def set_queue_limits(queue: QueueName, body: QueueLimits, services: ServicesDep) -> QueueLimitsResponse:
    """Set the limits of a queue, for all workers together; a limit that is not given is removed.

    Returns 422 without the delivery engine.
    """
    require_queue(current_caller(), queue)
    return services.queue_limits.put(queue, body)
