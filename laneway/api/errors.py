"""Every error of the API in one form, and where the document lists them."""

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

from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.logging import logger
from laneway.platform.schemas.problem import FieldProblem, Problem

log = logger(__name__)

MEDIA_TYPE = "application/problem+json"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these errors (and the ones that each route may answer)."""
    return {status: _answer(status) for status in sorted({*statuses, *ALWAYS})}


def _answer(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else {}
    return {"description": MEANINGS[status], "content": content, **headers}


ALWAYS = (413, 422, 500, 503)
RETRY_AFTER = {"description": "Seconds after which another try makes sense", "schema": {"type": "integer"}}
MEANINGS = {
    401: "Not signed by whom it says it is from; nothing was stored",
    404: "Nothing has this id",
    409: "Not possible: the id was used for something else, or the state does not allow it",
    410: "Finished too long ago: its status is no longer kept",
    413: "The body is larger than MAX_BODY_BYTES, or a task's payload larger than 1 MiB",
    422: "The request does not fit its type",
    429: "The queue is full; try again after Retry-After seconds. Nothing was queued",
    500: "An error of the platform; the request id finds it in the logs",
    503: "The broker or the database is away, or a setting is missing. A repeat with the same id is safe",
}


OUTWARD: Final[dict[type[PlatformError], str]] = {
    BrokerUnavailable: "The broker cannot be reached. Try again later; a repeat with the same id is safe.",
    DatabaseUnavailable: "The database cannot be reached. Try again later.",
}
"""What callers are told in the place of reasons that name our servers; the logs have those."""
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
LONGEST_NAME, LONGEST_PROBLEM = 200, 500
"""Characters of what a caller sent that are said back."""


class BodyTooLarge(HTTPException):
    """A body over the limit; an HTTPException, as FastAPI lets no other pass while it reads a body."""

    def __init__(self, limit: int) -> None:
        detail = f"The body is larger than {limit} bytes (MAX_BODY_BYTES)."
        super().__init__(413, detail, {"Connection": "close"})


def install(app: FastAPI) -> None:
    """Answer every error as a problem."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)


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
    """One problem as a response."""
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
    assert isinstance(error, PlatformError)  # noqa: S101  how it was registered
    after = error.retry_after
    headers = {"Retry-After": str(max(1, math.ceil(after)))} if after is not None else {}
    if error.status >= 500:
        log.warning("request failed", error=str(error), kind=type(error).__name__)
    detail = OUTWARD.get(type(error), str(error))
    return problem_response(
        request.scope["path"],
        status=error.status,
        title=error.title,
        detail=detail,
        kind=_slug(type(error).__name__),
        headers=headers,
    )


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  how it was registered
    return _misfit(request, [_field_problem(item) for item in error.errors()[:50]])


def _field_problem(item: dict[str, Any]) -> FieldProblem:
    if item["type"] == "json_invalid":  # its place is a position in the text, and its message says nothing
        reason = item.get("ctx", {}).get("error", "")
        return FieldProblem(field="body", problem=f"It is not JSON, from character {item['loc'][-1]} on: {reason}")
    return FieldProblem(
        field=".".join(str(part) for part in item["loc"])[:LONGEST_NAME], problem=str(item["msg"])[:LONGEST_PROBLEM]
    )


def _misfit(request: Request, found: list[FieldProblem]) -> Response:
    detail = "; ".join(f"{item.field}: {item.problem}" for item in found[:3])
    return problem_response(
        request.scope["path"],
        status=422,
        title="The request does not fit its type",
        detail=detail,
        kind="invalid-request",
        errors=found,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  how it was registered
    if error.status_code == 400:  # FastAPI's only one: JSON too deep, numbers too long, not UTF-8
        return _misfit(request, [FieldProblem(field="body", problem="It cannot be read as JSON.")])
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return http_problem(request.scope["path"], error, headers=headers)


def http_problem(path: str, error: HTTPException, *, headers: dict[str, str] | None = None) -> Response:
    """An error of the framework, or one like it, as a problem."""
    kind = "body-too-large" if isinstance(error, BodyTooLarge) else None
    return problem_response(
        path,
        status=error.status_code,
        title=HTTPStatus(error.status_code).phrase,
        detail=str(error.detail),
        kind=kind,
        headers=dict(error.headers or {}) if headers is None else headers,
    )


def _allowed(request: Request) -> list[str]:
    """The methods of all routes on this path; Starlette names only those of the first."""

    def answered(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if answered(method)]


async def _gone(_request: Request, _error: Exception) -> Response:
    """The caller hung up half-way: nobody reads this answer, and nothing is wrong with us."""
    return Response(status_code=400)


def unexpected(path: str, error: Exception) -> Response:
    """The answer to an error that nobody foresaw: logged whole, told to nobody."""
    log.error("unexpected error", exc_info=error)
    return problem_response(
        path,
        status=500,
        title="Internal error",
        detail="An error of the platform; the request id finds it in the logs.",
    )


def _slug(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
