"""Who may use the platform: the people who are logged in, and the tokens of programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.parameters import Word
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.logins import session_views
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_views import token_view
from laneway.platform.platform import Platform
from laneway.schemas.session import SessionView

router = APIRouter(
    prefix="/console/access", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.ADMIN)]
)
navigation = (NavigationEntry("Access", "/console/access", "s", Scope.ADMIN, "Administration"),)
pages = Pages()

MOST: Final = 200
"""People, and tokens, that are shown."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A person with all sessions."""

    person: str
    role: str
    sessions: int
    waiting: int
    """Sessions that count again when the identity provider has named the person again."""
    began_at: datetime
    """When the latest session began."""
    confirmed_at: datetime


@router.get("", dependencies=[OnlyKnown])
async def show_access(request: Request, services: ServicesDep, name: Word = "") -> Response:
    """People and tokens. `name` is a part of their names."""
    return await pages.show(request, "access.html", partial(_values, services, name))


def _values(services: Platform, name: str) -> Mapping[str, Any]:
    part = name.casefold()
    people = [each for each in logged_in(session_views(services.people.logins)) if part in each.person.casefold()]
    tokens = [token_view(row) for row in services.tokens.listing() if part in row.name.casefold()]
    return {
        "people": people[:MOST],
        "tokens": tokens[:MOST],
        "more_people": len(people) - MOST,
        "more_tokens": len(tokens) - MOST,
        "name": name,
        "is_open": not services.settings.is_authenticating,
        "people_from": _people_from(services),
    }


def _people_from(services: Platform) -> str:
    """Who tells the platform who people are: `provider`, `proxy`, or nobody."""
    settings = services.settings.people
    return "provider" if settings.issuer else "proxy" if settings.proxy_user_header else ""


def logged_in(sessions: Sequence[SessionView]) -> Iterable[LoggedIn]:
    """The sessions by person; who has logged in last comes first. `sessions`: the latest first."""
    of: dict[str, list[SessionView]] = {}
    for session in sessions:
        of.setdefault(session.person, []).append(session)
    for person, theirs in of.items():
        waiting = sum(not each.confirmed for each in theirs)
        confirmed_at = max(each.confirmed_at for each in theirs)
        yield LoggedIn(person, theirs[0].role, len(theirs), waiting, theirs[0].began_at, confirmed_at)
