"""Limits of queues: rates, tasks in flight, pauses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from laneway.api.deps import NO_NULL, ServicesDep
from laneway.api.errors import problems
from laneway.platform.schemas.queue import QueueLimits, QueueLimitsListResponse, QueueLimitsResponse

router = APIRouter(tags=["queues"])

QueueName = Annotated[str, Path(min_length=1, max_length=64, pattern=NO_NULL, examples=["qa"])]


@router.get("/queues", responses=problems())
def listing(services: ServicesDep) -> QueueLimitsListResponse:
    """Every queue with its limits."""
    return QueueLimitsListResponse(queues=services.queue_limits.listing())


@router.get("/queues/{queue}/limits", responses=problems(404))
def one(queue: QueueName, services: ServicesDep) -> QueueLimitsResponse:
    """What a queue may do. An unknown queue: 404, naming those that there are."""
    return services.queue_limits.of(queue)


@router.put("/queues/{queue}/limits", responses=problems(404))
def put(queue: QueueName, body: QueueLimits, services: ServicesDep) -> QueueLimitsResponse:
    """Set all limits of a queue, for all workers together; what is left out is lifted. Without the engine: 422."""
    return services.queue_limits.put(queue, body)
