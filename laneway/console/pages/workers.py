"""The workers: what each serves and runs, when it last reported, and how silent ones ended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.workers import ALIVE
from laneway.platform.platform import Platform
from laneway.platform.queues import queues as declared

router = APIRouter(
    prefix="/console/workers", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Workers", "/console/workers", "w"),)
pages = Pages()

RUNNING: Final = 8
"""Running tasks of a worker that are named."""


@router.get("", dependencies=[OnlyKnown])
async def show_workers(request: Request, services: ServicesDep) -> Response:
    """The workers by name."""
    return await pages.show(request, "workers.html", partial(_values, services))


def _values(services: Platform) -> Mapping[str, Any]:
    workers = services.tasks.workers()
    living = [each for each in workers if each.alive]
    served = {queue for each in living for queue in each.queues}
    return {
        "workers": workers,
        "living": len(living),
        "running": sum(len(each.running) for each in living),
        "versions": sorted({each.version for each in living if each.version}),
        "unserved": [queue for queue in declared if queue not in served],
        "most": RUNNING,
        "silence": ALIVE.total_seconds(),
    }
