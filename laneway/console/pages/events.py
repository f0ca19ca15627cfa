"""The events of all tasks, or of a selection, as they come. The browser reads the feed of the API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import EMPTY_IS_NONE, Word
from laneway.console.rendering import PageRoute, Pages, query
from laneway.platform.access.scopes import Scope
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.schemas.choices import EventKindName

router = APIRouter(
    prefix="/console/events", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Events", "/console/events", "v"),)
pages = Pages()

FIRST: Final = 100
"""Newest events with which the page begins."""
Kinds = Annotated[list[EventKindName], BeforeValidator(lambda kinds: [each for each in kinds if each]), Query()]


@router.get("", dependencies=[OnlyKnown])
async def show_events(
    request: Request,
    queue: Annotated[Word | None, EMPTY_IS_NONE] = None,
    name: Annotated[Word | None, EMPTY_IS_NONE] = None,
    tag: Annotated[Word | None, EMPTY_IS_NONE] = None,
    workflow: Annotated[Word | None, EMPTY_IS_NONE] = None,
    kind: Kinds = [],  # noqa: B006  FastAPI copies it
) -> Response:
    """The events of tasks that match."""
    given = {"queue": queue, "name": name, "tag": tag, "workflow": workflow, "kind": [each.value for each in kind]}
    return await pages.show(request, "events.html", partial(_values, given), live=False)


def _values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "given": given,
        "feed": f"/events{query(given, last=FIRST)}",
        "first": FIRST,
        "queues": list(declared),
        "names": sorted(registry),
        "kinds": [each.value for each in EventKindName],
    }
