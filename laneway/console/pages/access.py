"""Who may use the platform: the people who are logged in, and the tokens of programs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import Word
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_views import token_view
from laneway.platform.platform import Platform

router = APIRouter(
    prefix="/console/access", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.ADMIN)]
)
navigation = (NavigationEntry("Access", "/console/access", "s", Scope.ADMIN, "Administration"),)
pages = Pages()

MOST: Final = 200
"""People, and tokens, that are shown."""


@router.get("", dependencies=[OnlyKnown])
async def show_access(request: Request, services: ServicesDep, name: Word = "") -> Response:
    """People and tokens. `name` is a part of their names."""
    return await pages.show(request, "access.html", partial(_values, services, name))


def _values(services: Platform, name: str) -> Mapping[str, Any]:
    people = services.people.logins.people(part=name, limit=MOST + 1)
    tokens = services.tokens.listing(part=name, limit=MOST + 1)
    return {
        "people": people[:MOST],
        "tokens": [token_view(row) for row in tokens[:MOST]],
        "more_people": len(people) > MOST,
        "more_tokens": len(tokens) > MOST,
        "most": MOST,
        "name": name,
        "is_open": not services.settings.is_authenticating,
        "people_from": _people_from(services),
    }


def _people_from(services: Platform) -> str:
    """Who tells the platform who people are: `provider`, `proxy`, or nobody."""
    settings = services.settings.people
    return "provider" if settings.issuer else "proxy" if settings.proxy_user_header else ""
