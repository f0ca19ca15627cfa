"""Log in and out, and who one is. The pages are for people; programs use tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from laneway.api.access import ANYBODY_KNOWN, public
from laneway.api.deps import ServicesDep
from laneway.api.errors import problems, public_detail
from laneway.api.login_page import NO_STORE, login_page, logout_page, page, refused_page, safe_target
from laneway.api.people import CsrfTokenMissing, cookie_of, person_of, session_cookie
from laneway.api.threads import ThreadedRoute, write_in_thread
from laneway.platform.access.caller import acting_as, current_caller
from laneway.platform.access.logins import browser_of
from laneway.platform.access.people import People
from laneway.platform.access.sessions import LOGIN_SECONDS
from laneway.platform.errors import PlatformError
from laneway.schemas.me import MeResponse

router = APIRouter(
    tags=["login"], route_class=ThreadedRoute, dependencies=[public("who is not logged in has to log in")]
)

Target = Annotated[str, Query(max_length=2000)]
LONGEST_FORM = 8192
"""Bytes of the form that logs out."""


@router.get("/me", dependencies=[Depends(ANYBODY_KNOWN)], responses=problems())
def who_am_i(request: Request, services: ServicesDep) -> MeResponse:
    """Show who sends this request, and the scopes that the caller has."""
    caller, people = current_caller(), services.people
    found = person_of(request.scope, people)
    return MeResponse(
        kind=caller.kind,
        name=caller.name,
        scopes=sorted(caller.scopes),
        tenant=caller.tenant,
        queues=None if caller.queues is None else sorted(caller.queues),
        csrf_token=people.sessions.csrf_token(found.subject) if found else None,
    )


@router.get("/login", include_in_schema=False)
def show_login(services: ServicesDep, next: Target = "/docs") -> Response:
    """The page that leads to the identity provider."""
    return login_page(services.people, safe_target(next, services.people))


@router.get("/login/start", include_in_schema=False)
def start_login(services: ServicesDep, next: Target = "/docs") -> Response:
    """Send the browser to the identity provider."""
    people = services.people
    if people.provider is None:
        return login_page(people, "/docs")
    try:
        begun = people.provider.start()
    except PlatformError as error:
        return refused_page(public_detail(error), error.status)
    noted = people.sessions.note_login({**begun.noted, "next": safe_target(next, people)})
    response = RedirectResponse(begun.url, 303, NO_STORE)
    _set_cookie(response, people, name=_login_cookie(people), value=noted, seconds=LOGIN_SECONDS)
    return response


@router.get("/login/callback", include_in_schema=False)
def finish_login(request: Request, services: ServicesDep) -> Response:
    """Begin the session of the person whom the identity provider names."""
    people = services.people
    if people.provider is None:
        return login_page(people, "/docs")
    noted = people.sessions.noted_login(cookie_of(request.headers, _login_cookie(people)))
    try:
        person = people.provider.finish(dict(request.query_params), noted)
    except PlatformError as error:
        return refused_page(public_detail(error), error.status)
    role = people.roles.role_of(person)
    if role is None:
        people.logins.refuse(person)
        return refused_page(f"{person.name} has no role here: somebody must add one to the settings.", 403)
    with acting_as(replace(current_caller(), kind="person", name=person.name)):
        before = people.session_of(session_cookie(request.scope, people))
        cookie = people.sessions.cookie_for(people.logins.begin(person, role, continues=before))
    response = RedirectResponse(safe_target((noted or {}).get("next", ""), people), 303, NO_STORE)
    _set_cookie(response, people, name=people.sessions.cookie, value=cookie, seconds=people.sessions.seconds)
    response.delete_cookie(_login_cookie(people), secure=people.sessions.secure, httponly=True, samesite="lax")
    return response


@router.get("/logout", include_in_schema=False)
def show_logout(request: Request, services: ServicesDep) -> Response:
    """The page with the button that ends the session."""
    people, found = services.people, person_of(request.scope, services.people)
    if found is None:
        return login_page(people, "/docs")
    return logout_page(found.caller.name, people.sessions.csrf_token(found.subject))


@router.post("/logout", include_in_schema=False)
async def log_out(request: Request, services: ServicesDep) -> Response:
    """End the session. The form, or the header X-CSRF-Token, has the session's token."""
    body = await request.body()
    fields = parse_qs(body[:LONGEST_FORM].decode("ascii", "replace"), max_num_fields=10) if body else {}
    token = request.headers.get("x-csrf-token") or fields.get("csrf_token", [""])[0]
    return await write_in_thread(_end_session, request, services.people, token)


def _end_session(request: Request, people: People, token: str) -> Response:
    found, session = person_of(request.scope, people), people.session_of(session_cookie(request.scope, people))
    subject = browser_of(session) if session else found.subject if found else None
    if subject is not None and not people.sessions.is_csrf_token(token, subject):
        raise CsrfTokenMissing
    if session is not None:
        name = people.logins.person_of(session)
        with acting_as(replace(current_caller(), kind="person", name=name) if name else current_caller()):
            people.logins.end(session)
    response = page("Log out", '<p>You are logged out.</p><p><a href="/login">Log in</a></p>')
    response.delete_cookie(people.sessions.cookie, secure=people.sessions.secure, httponly=True, samesite="lax")
    return response


def _login_cookie(people: People) -> str:
    return f"{people.sessions.cookie}_login"


def _set_cookie(response: Response, people: People, *, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, secure=people.sessions.secure, httponly=True, samesite="lax")
