"""The one format of all errors of the API (RFC 9457, Problem Details), and how the OpenAPI document describes it."""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from laneway._masking import masked
from laneway.platform.access.caller import current_caller
from laneway.platform.access.errors import NotAuthenticated
from laneway.platform.db.database_errors import DatabaseFull, DatabaseUnusable
from laneway.platform.errors import (
    BrokerLoginRefused,
    BrokerRefuses,
    BrokerUnavailable,
    DatabaseBusy,
    DatabaseUnavailable,
    PlatformError,
)
from laneway.platform.logging import logger
from laneway.platform.schedules.definition import BadDefinition
from laneway.schemas.problem import FieldProblem, Problem

log = logger(__name__)

MEDIA_TYPE = "application/problem+json"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the argument `responses` of a route: these statuses, and those that every route may return."""
    return {status: _response(status) for status in sorted({*statuses, *ALWAYS})}


def _response(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else {}
    return {"description": MEANINGS[status], "content": content, **headers}


ALWAYS = (413, 422, 429, 500, 503)
RETRY_AFTER = {"description": "Seconds after which the request may succeed", "schema": {"type": "integer"}}
MEANINGS = {
    401: "The token or the signature is missing or wrong; nothing was stored",
    403: "The caller may not do this, or a page of another site has sent the request",
    404: "Nothing has this id",
    409: "Not possible: the id is in use for something else, or the state does not allow it",
    410: "The task finished too long ago; its status has expired",
    413: "The body is larger than MAX_BODY_BYTES, or a task's payload is larger than 1 MiB",
    421: "The API does not answer for the host that the request names",
    422: "The request is not valid",
    429: "A quota is used up or the queue is full, and nothing was done; try again after Retry-After seconds",
    500: "An error of the platform; the logs contain it under the request id",
    503: "The broker or the database is unavailable, or a setting is missing. A repeat with the same id is safe",
}


PUBLIC_DETAILS: Final[dict[type[PlatformError], str]] = {
    BrokerUnavailable: "The broker cannot be reached. Try again later; a repeat with the same id is safe.",
    BrokerRefuses: "The broker takes no commands now. Try again later; a repeat with the same id is safe.",
    BrokerLoginRefused: "The broker refuses the login. Its operator has to check the settings.",
    DatabaseBusy: "Another program holds the database. Try again later; a repeat with the same id is safe.",
    DatabaseUnavailable: "The database cannot be reached. Try again later.",
    DatabaseFull: "The storage of the platform is full, and nothing was stored. Somebody must free space on it.",
    DatabaseUnusable: "The database of the platform cannot be used. Somebody must repair it; the logs say why.",
}
"""The `detail` of responses whose real reason would name our servers. The logs contain the reason."""
INVALID: Final = "The request is not valid"
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
LONGEST_NAME, LONGEST_PROBLEM = 200, 500
"""Characters of a field's name and of its problem that a response shows: both may repeat what the caller sent."""


class BodyTooLarge(HTTPException):
    """The body is over the limit. It is an HTTPException: FastAPI turns other errors of reading the body into a 400."""

    def __init__(self, limit: int) -> None:
        detail = f"The body is larger than {limit} bytes (MAX_BODY_BYTES)."
        super().__init__(413, detail, {"Connection": "close"})


def install(app: FastAPI) -> None:
    """Turn every error into a problem response."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnected)


def problem_response(
    path: str,
    *,
    status: int,
    title: str,
    detail: str,
    kind: str | None = None,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return a problem as a response. `kind` is the last part of the problem's type."""
    problem = Problem(
        type=f"urn:laneway:problem:{kind}" if kind else "about:blank",
        title=title,
        status=status,
        detail=detail,
        instance=quote(path, errors="replace"),
        errors=errors,
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE)


async def _platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)  # noqa: S101 - the handler is registered for this class
    return platform_problem(request.scope["path"], error)


def platform_problem(path: str, error: PlatformError) -> Response:
    """Return an error of the platform as a problem response."""
    delay = error.retry_after
    headers = {"Retry-After": str(max(1, math.ceil(delay)))} if delay is not None else {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500:
        log.warning("request failed", error=str(error), kind=type(error).__name__)
    detail = public_detail(error)
    return problem_response(
        path,
        status=error.status,
        title=error.title,
        detail=detail,
        kind=problem_kind(type(error).__name__),
        errors=_problems_of(error),
        headers=headers,
    )


def _problems_of(error: PlatformError) -> list[FieldProblem] | None:
    """The fields that are wrong, of an error that names them."""
    if not isinstance(error, BadDefinition):
        return None
    return [
        FieldProblem(field=field[:LONGEST_NAME], problem=masked(problem)[:LONGEST_PROBLEM])
        for field, problem in error.fields[:50]
    ]


def public_detail(error: PlatformError) -> str:
    """The text of an error, as a caller may read it. The user of this machine may read the reason as well."""
    if current_caller().kind == "command":
        return masked(str(error))
    known = (PUBLIC_DETAILS[kind] for kind in type(error).__mro__ if kind in PUBLIC_DETAILS)
    return masked(next(known, str(error)))


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for this class
    return _invalid(request, field_problems(error))


def field_problems(error: RequestValidationError) -> list[FieldProblem]:
    """What is wrong in a request, field by field."""
    return [_field_problem(item) for item in error.errors()[:50]]


def summary(fields: list[FieldProblem]) -> str:
    """The first problems in one line."""
    return "; ".join(f"{item.field}: {item.problem}" for item in fields[:3])


def _field_problem(item: dict[str, Any]) -> FieldProblem:
    if item["type"] == "json_invalid":  # `loc` holds a position in the body, and `msg` has no details
        reason = item.get("ctx", {}).get("error", "")
        return FieldProblem(field="body", problem=f"It is not valid JSON at character {item['loc'][-1]}: {reason}")
    return FieldProblem(
        field=".".join(str(part) for part in item["loc"])[:LONGEST_NAME], problem=str(item["msg"])[:LONGEST_PROBLEM]
    )


def _invalid(request: Request, fields: list[FieldProblem]) -> Response:
    return problem_response(
        request.scope["path"],
        status=422,
        title=INVALID,
        detail=summary(fields),
        kind="invalid-request",
        errors=fields,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for this class
    if error.status_code == 400:  # FastAPI raises it for JSON that is too deep, has too long numbers or is not UTF-8
        return _invalid(request, [FieldProblem(field="body", problem="It cannot be read as JSON.")])
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return http_problem(request.scope["path"], error, headers=headers)


def http_problem(path: str, error: HTTPException, *, headers: dict[str, str] | None = None) -> Response:
    """Return an HTTPException as a problem response."""
    kind = "body-too-large" if isinstance(error, BodyTooLarge) else None
    return problem_response(
        path,
        status=error.status_code,
        title=HTTPStatus(error.status_code).phrase,
        detail=str(error.detail),
        kind=kind,
        headers=dict(error.headers or {}) if headers is None else headers,
    )


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of this path; Starlette names only those of the first route."""

    def is_routed(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if is_routed(method)]


async def _client_disconnected(_request: Request, _error: Exception) -> Response:
    """Handle a caller that closed the connection early: nobody reads this response, and it is not our error."""
    return Response(status_code=400)


def unexpected_error(path: str, error: Exception) -> Response:
    """Log an unexpected error, and return a response that does not contain it."""
    log.error("unexpected error", exc_info=error)
    return problem_response(
        path,
        status=500,
        title="Internal error",
        detail="An error of the platform; the logs contain it under the request id.",
    )


def problem_kind(name: str) -> str:
    """The last part of the type of the problem that an error of this class becomes: `queue-full` for `QueueFull`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
