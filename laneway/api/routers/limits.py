"""Limits with names, which tasks share: list, set, remove."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.schemas.limit import NamedLimitRequest, NamedLimitsResponse, NamedLimitView

router = APIRouter(prefix="/limits", tags=["queues"], route_class=ThreadedRoute)

LimitName = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL, examples=["crm-api"])]
Reads, Operates = requires(Scope.READ), requires(Scope.QUEUES)


@router.get("", dependencies=[Reads, OnlyKnown], responses=problems())
def list_limits(services: ServicesDep) -> NamedLimitsResponse:
    """List the limits that tasks share, by name, with what runs and waits."""
    return NamedLimitsResponse(limits=services.named_limits.listing())


@router.get("/{name}", dependencies=[Reads], responses=problems(404))
def show_limit(name: LimitName, services: ServicesDep) -> NamedLimitView:
    """Show one limit."""
    return services.named_limits.of(name)


@router.put("/{name}", dependencies=[Operates], responses=problems(404))
def set_limit(name: LimitName, body: NamedLimitRequest, services: ServicesDep) -> NamedLimitView:
    """Set a limit, for all workers together; a value that is not given is no limit.

    `task:NAME` is the limit of all runs of one task. Returns 422 without the delivery engine.
    """
    return services.named_limits.put(name, body)


@router.delete("/{name}", dependencies=[Operates], responses=problems(404))
def remove_limit(name: LimitName, services: ServicesDep) -> NamedLimitView:
    """Take back what an operator has set: the limit is what the tasks declare; returns it as it is now."""
    return services.named_limits.remove(name)
