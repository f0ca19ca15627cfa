"""The person of an HTTP request, and the check that a write with a cookie comes from a page of ours (CSRF)."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from laneway.platform.access.people import FoundPerson, People
from laneway.platform.errors import PlatformError

CSRF_HEADER: Final = "X-CSRF-Token"
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS: Final = frozenset({"/logout"})
"""Paths whose form carries the token in a field; their routes check it."""


class CsrfTokenMissing(PlatformError):
    """A write with a cookie has no token of its session."""

    status, title = 403, "CSRF token missing"

    template = "A write in a session needs the header X-CSRF-Token with the csrf_token of GET /me."


def person_of(scope: Scope, people: People) -> FoundPerson | None:
    """The person of a request. Raises CsrfTokenMissing for a write that another site may have caused."""
    headers = Headers(scope=scope)
    client = scope.get("client")
    found = people.find(
        cookie=session_cookie(scope, people),
        address=client[0] if client else None,
        headers=headers.getlist,
    )
    if found is None or scope["method"] in READS or scope["path"] in FORMS:
        return found
    if not people.sessions.is_csrf_token(headers.get(CSRF_HEADER), found.subject):
        raise CsrfTokenMissing
    return found


def session_cookie(scope: Scope, people: People) -> str | None:
    """The value of the session's cookie of a request."""
    headers = Headers(scope=scope)
    return cookie_of(headers, people.sessions.cookie) if "cookie" in headers else None


def cookie_of(headers: Headers, name: str) -> str | None:
    """The value of a cookie; None if the request has none, or has several of this name."""
    found: list[str] = []
    for text in headers.getlist("cookie"):
        for part in text.split(";"):
            given, _, value = part.strip().partition("=")
            if given == name:
                found.append(value)
    return found[0] if len(found) == 1 else None
