"""The limits that tasks share: what each allows, what has it now, what waits for it, and when it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import Word
from laneway.console.rendering import PageRoute, Pages
from laneway.engine.keys import TASK_LIMIT
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.schemas.limit import LimitSource, NamedLimitView

router = APIRouter(
    prefix="/console/limits", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Limits", "/console/limits", "n"),)
pages = Pages()

MOST: Final = 200
"""Limits that are shown."""


@router.get("", dependencies=[OnlyKnown])
async def show_limits(request: Request, services: ServicesDep, name: Word = "", queue: Word = "") -> Response:
    """The limits by name. `name` is a part of it; `queue`: only limits of tasks of this queue."""
    return await pages.show(request, "limits.html", partial(_values, services, name, queue))


def _values(services: Platform, name: str, queue: str) -> Mapping[str, Any]:
    every = services.named_limits.listing()
    found = [each for each in every if name in each.name and (not queue or queue in each.queues)]
    has_engine = services.broker.engine is not None
    return {
        "limits": found[:MOST],
        "keys": {each.name: _keys(each.name) for each in found[:MOST]},
        "more": len(found) > MOST,
        "most": MOST,
        "number": len(found),
        "waiting": sum(each.waiting or 0 for each in found),
        "closed": sum(is_used_up(each) for each in found),
        "name": name,
        "queue": queue,
        "queues": list(declared),
        "names": _names(every),
        "has_engine": has_engine,
        "broker_answers": not has_engine or all(each.in_force is not None for each in every),
        "may_operate": has_engine and current_caller().may(Scope.QUEUES),
        "is_used_up": is_used_up,
        "of_operator": LimitSource.OPERATOR,
    }


def is_used_up(limit: NamedLimitView) -> bool:
    """Whether it lets nothing through now: by time, or because running tasks have all points.

    Of a limit with keys, nobody knows that without looking at each key.
    """
    is_full = limit.max_running is not None and (limit.running or 0) >= limit.max_running and not _keys(limit.name)
    return limit.blocked_until is not None or (bool(limit.waiting) and (limit.opens_at is not None or is_full))


def _keys(name: str) -> list[str]:
    """The fields of payloads by which a limit is counted."""
    limits = (limit for spec in registry.values() for limit in spec.flow.limits if limit.name == name)
    return sorted({limit.key for limit in limits if limit.key})


def _names(every: Sequence[NamedLimitView]) -> list[str]:
    """The limits that can be set: those of tasks, and one for each task."""
    return sorted({each.name for each in every} | {f"{TASK_LIMIT}{name}" for name in registry})
