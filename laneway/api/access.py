"""Who may use which route.

A route says with `requires(scope)` or `public(reason)` who may use it. `Authentication` finds the caller of a request,
and refuses it before its body is read. A route that says nothing needs the scope `admin`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, params
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asgi

from laneway.api.errors import platform_problem
from laneway.api.login_page import to_login
from laneway.api.people import person_of, session_cookie
from laneway.api.threads import read_in_thread
from laneway.platform.access.caller import NOBODY, Caller, acting_as, current_caller
from laneway.platform.access.errors import NotAllowed, NotAuthenticated
from laneway.platform.access.quota_errors import QuotaExceeded
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import PlatformError
from laneway.platform.platform import Platform

ANONYMOUS: Final = Caller(kind="anonymous", name="anonymous")
"""The caller of a request without a credential: it may use public routes."""
COMMAND: Final = "laneway.command"
"""The key in an ASGI scope with the caller of a request that came from a command of this machine's user. Servers make
the scope, so no request can set it."""
BEARER: Final = re.compile(r"bearer +(\S+) *", re.ASCII | re.IGNORECASE)
LONGEST_HEADER: Final = 4096
REFUSAL_SECONDS: Final = 0.5
"""A refusal for too many requests is held back for this time, up to twice of it by chance. A flood over few connections
then costs next to nothing, and its connections do not come back all at once."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who may use a route."""

    scope: str | None
    """None: everybody."""
    single: bool = False
    """Callers that may submit single tasks only (`tasks:submit:NAME`) may use the route; it checks the name itself."""
    bound: bool = False
    """Callers that are bound to a tenant, queues or names may use the route; it shows and changes only what is theirs.
    """
    reason: str = ""
    """Why everybody may use the route."""
    shows_more: bool = False
    """Everybody may use the route, and it shows more to some callers."""

    async def __call__(self, request: Request) -> None:
        """Refuse a request that the middleware has let through, such as one of another application's mount."""
        del request
        self.check(current_caller())

    def check(self, caller: Caller) -> None:
        """Raise NotAuthenticated or NotAllowed, unless this caller may use the route."""
        if self.scope is None:
            return
        if not caller.scopes:
            raise NotAuthenticated("there is none")
        if self is ANYBODY_KNOWN:
            return
        allowed = caller.may(self.scope) or (self.single and any(map(_is_single, caller.scopes)))
        if not allowed:
            raise NotAllowed(caller.name, f"it needs the scope {self.scope}")
        if caller.is_bound and not self.bound:
            raise NotAllowed(
                caller.name,
                "its token is bound to a tenant, to queues or to names, and this route shows more than that",
            )


def _is_single(scope: str) -> bool:
    return scope.startswith(f"{Scope.SUBMIT}:")


NOT_DECLARED: Final = Requirement(Scope.ADMIN)
"""Who may use a route that does not say it."""
ANYBODY_KNOWN: Final = Requirement("")
"""Whoever has a credential, whatever its scopes are."""


def requires(scope: str, *, single: bool = False, bound: bool = False) -> Any:
    """A dependency of a router or a route: its callers need this scope. That of a route replaces that of its router.

    `single`: or `tasks:submit:NAME` for any name, which the route checks. `bound`: the route shows and changes only
    what belongs to the caller's tenant, queues and names; without it such callers may not use the route.
    """
    return params.Depends(Requirement(scope, single=single, bound=bound))


def public(reason: str, *, shows_more: bool = False) -> Any:
    """A dependency of a router or a route: everybody may use it, for this reason.

    `shows_more`: the route looks at the caller, and shows more to some.
    """
    return params.Depends(Requirement(None, reason=reason, shows_more=shows_more))


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route, and who may use it."""

    path: str
    path_format: str
    """The path as the OpenAPI document has it."""
    methods: frozenset[str]
    """Empty: all."""
    regex: re.Pattern[str]
    requirement: Requirement
    declared: bool
    """Whether the route says who may use it."""


def guarded_routes(app: FastAPI) -> list[GuardedRoute]:
    """Every route of an application in the order in which they are tried, with who may use it."""
    return list(_guarded_routes(app))


def _guarded_routes(app: FastAPI) -> Iterator[GuardedRoute]:
    for context in iter_route_contexts(app.router.routes):
        route: Any = context
        regex = getattr(route, "path_regex", None)
        if regex is None:
            continue
        requirements = [
            each.dependency
            for each in getattr(route, "dependencies", None) or ()
            if isinstance(each.dependency, Requirement)
        ]
        declared = requirements[-1] if requirements else None
        methods = frozenset(getattr(route, "methods", None) or ())
        yield GuardedRoute(
            route.path, route.path_format, methods, regex, declared or NOT_DECLARED, declared is not None
        )


class Authentication:
    """Finds the caller of each request, and refuses a caller that may not use the route.

    Without authentication every caller is `NOBODY`, who may do everything. A command of this machine's user has proven
    who it is (`command_socket.py`).
    """

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app, self._api = app, api
        self._routes: list[GuardedRoute] = []
        self._counted = -1

    async def __call__(self, scope: Asgi, receive: Receive, send: Send) -> None:
        platform: Platform = self._api.state.services
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        known = scope.get(COMMAND) or (None if platform.settings.is_authenticating else NOBODY)
        if known is not None:
            with acting_as(replace(known, request_id=request_id)):
                return await self._app(scope, receive, send)
        if scope["type"] != "http":  # there is no route for web sockets
            return await send({"type": "websocket.close", "code": 1008})
        try:
            requirement = self._find(scope)
            caller = await self._caller(platform, scope, requirement)
            platform.quotas.count_request(caller)
            requirement.check(caller)
        except PlatformError as error:
            if isinstance(error, QuotaExceeded):
                await asyncio.sleep(REFUSAL_SECONDS * (1 + random.random()))
            return await _refusal(platform, scope, error)(scope, receive, send)
        with acting_as(replace(caller, request_id=request_id)):
            return await self._app(scope, receive, send)

    async def _caller(self, platform: Platform, scope: Asgi, requirement: Requirement) -> Caller:
        header = Headers(scope=scope).get("authorization")
        if header is None:
            looks = requirement.scope is not None or requirement.shows_more
            return await self._person(platform, scope) if looks else ANONYMOUS
        found = BEARER.fullmatch(header) if len(header) <= LONGEST_HEADER else None
        if found is None:
            raise NotAuthenticated("the header has another form")
        tokens, token = platform.tokens, found[1]
        return tokens.check(token) if tokens.is_cached(token) else await read_in_thread(tokens.check, token)

    async def _person(self, platform: Platform, scope: Asgi) -> Caller:
        if not platform.settings.people.asks_people:
            return ANONYMOUS
        people, find = platform.people, partial(person_of, scope, platform.people)
        person = await read_in_thread(find) if people.needs_database(session_cookie(scope, people)) else find()
        return person.caller if person else ANONYMOUS

    def _find(self, scope: Asgi) -> Requirement:
        """Who may use the route of a request. A path without a route needs a credential, and is unknown then."""
        if self._counted != len(self._api.router.routes):
            self._routes, self._counted = guarded_routes(self._api), len(self._api.router.routes)
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        for route in self._routes:
            if (not route.methods or method in route.methods) and route.regex.match(path):
                return route.requirement
        return ANYBODY_KNOWN


def _refusal(platform: Platform, scope: Asgi, error: PlatformError) -> Response:
    """The problem; a browser that opens a page without a session is led to the login instead."""
    headers = Headers(scope=scope)
    opens_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    has_login = bool(platform.settings.people.issuer) and "authorization" not in headers
    if isinstance(error, NotAuthenticated) and opens_page and has_login:
        query = scope["query_string"].decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        known = platform.people.session_of(session_cookie(scope, platform.people)) is not None
        return to_login(target, at_once=known)
    return platform_problem(scope["path"], error)
