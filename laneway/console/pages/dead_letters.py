"""Dead letters by group, the letters of a group, and the trash. What is done with them is done through the API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import Before, Word
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.platform.operations.dead_letter_views import dead_letter_view, group_view, states_of
from laneway.platform.platform import Platform
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry

router = APIRouter(
    prefix="/console/dead-letters",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(Scope.READ)],
)
navigation = (NavigationEntry("Dead letters", "/console/dead-letters", "d"),)
pages = Pages()

PAGE: Final = 50
"""Letters on a page."""
GROUPS: Final = 100
"""Groups that are shown."""
Yes = Annotated[Literal["", "yes"], Query()]
GroupName = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL)]
SELECTING: Final = ("queue", "name", "error")
"""The filters that a request of the API has, too."""


@router.get("", dependencies=[OnlyKnown])
async def show_dead_letters(
    request: Request,
    services: ServicesDep,
    queue: Word = "",
    name: Word = "",
    error: Word = "",
    failed: Yes = "",
    trashed: Yes = "",
) -> Response:
    """The groups, the largest first. `failed`: with permanent failures. `trashed`: those in the trash instead."""
    given = {"queue": queue, "name": name, "error": error, "failed": failed, "trashed": trashed}
    return await pages.show(request, "dead_letters.html", partial(_groups, services, given))


@router.get("/{group:path}", dependencies=[OnlyKnown])
async def show_dead_letter_group(
    group: GroupName,
    request: Request,
    services: ServicesDep,
    queue: Word = "",
    name: Word = "",
    error: Word = "",
    failed: Yes = "",
    trashed: Yes = "",
    before: Before = None,
) -> Response:
    """The letters of a group, newest first."""
    given = {"queue": queue, "name": name, "error": error, "failed": failed, "trashed": trashed}
    values = partial(_letters, services, group, given, before)
    return await pages.show(request, "dead_letter_group.html", values, live=before is None)


def _groups(services: Platform, given: Mapping[str, str]) -> Mapping[str, Any]:
    selected = _filter(given)
    found = services.dead_letters.groups(selected, limit=GROUPS)
    return {
        **_common(given),
        "groups": [group_view(each) for each in found],
        "by_hour": services.dead_letters.by_hour(selected, found) if found else {},
        "most": GROUPS,
        "names": [name for name in sorted(registry) if not registry.is_internal(name)],
        "queues": list(declared),
        "selection": _selection(given) if any(given[each] for each in SELECTING) else None,
    }


def _letters(services: Platform, group: str, given: Mapping[str, str], before: int | None) -> Mapping[str, Any]:
    selected = _filter(given, group)
    found = services.dead_letters.page(selected, before=before, limit=PAGE)
    kinds = services.dead_letters.groups(selected)
    letters = [dead_letter_view(run) for run in found]
    return {
        **_common(given),
        "group": group,
        "kinds": [group_view(each) for each in kinds],
        "by_hour": services.dead_letters.by_hour(selected, kinds) if found else {},
        "letters": letters,
        "newest": letters[0] if letters else None,
        "before": before,
        "next": found[-1].seq if len(found) == PAGE else None,
        "selection": {"group": group, **_selection(given)},
    }


def _common(given: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "given": given,
        "chosen": {name: given[name] for name in SELECTING if given[name]},
        "in_trash": bool(given["trashed"]),
        "may_act": current_caller().may(Scope.DEAD),
    }


def _filter(given: Mapping[str, str], group: str | None = None) -> Filter:
    return Filter(
        states=states_of(bool(given["failed"])),
        queue=given["queue"] or None,
        name=given["name"] or None,
        error=given["error"] or None,
        group=group,
        trashed=bool(given["trashed"]),
    )


def _selection(given: Mapping[str, str]) -> dict[str, Any]:
    """The same filter as a part of the body of a request."""
    chosen: dict[str, Any] = {name: given[name] for name in SELECTING if given[name]}
    return chosen | ({"failed": True} if given["failed"] else {})
