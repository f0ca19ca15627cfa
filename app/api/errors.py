"""Every error of the API in one form, and where the document lists them."""

from __future__ import annotations

import math
import re
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.core.errors import PlatformError
from app.core.logging import logger
from app.schemas.problem import FieldProblem, Problem

log = logger(__name__)

MEDIA_TYPE = "application/problem+json"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these errors (and the ones that each route may answer)."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in sorted({*statuses, *ALWAYS})}


ALWAYS = (413, 422, 500, 503)
MEANINGS = {
    401: "Not signed by whom it says it is from; nothing was stored",
    404: "Nothing has this id",
    409: "Not possible: the id was used for something else, or the state does not allow it",
    410: "Finished too long ago: its status is no longer kept",
    413: "The body is larger than MAX_BODY_BYTES",
    422: "The request does not fit its type",
    429: "The queue is full; try again after Retry-After seconds. Nothing was queued",
    500: "An error of the platform; the request id finds it in the logs",
    503: "The broker or the database is away, or a setting is missing. Nothing was queued",
}


def install(app: FastAPI) -> None:
    """Answer every error as a problem."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


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
        type=f"urn:laneway:problem:{kind}" if kind else "about:blank", title=title, status=status, detail=detail,
        instance=path, request_id=structlog.contextvars.get_contextvars().get("request_id"), errors=errors,
    )  # fmt: skip
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE)


async def _platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)  # noqa: S101  how it was registered
    after = error.retry_after
    headers = {"Retry-After": str(max(1, math.ceil(after)))} if after is not None else {}
    if error.status >= 500:
        log.warning("request failed", error=str(error), kind=type(error).__name__)
    return problem_response(request.url.path, status=error.status, title=error.title, detail=str(error),
                            kind=_slug(type(error).__name__), headers=headers)  # fmt: skip


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  how it was registered
    found = [FieldProblem(field=".".join(str(part) for part in item["loc"]), problem=str(item["msg"]))
             for item in error.errors()[:50]]  # fmt: skip
    detail = "; ".join(f"{item.field}: {item.problem}" for item in found[:3])
    return problem_response(request.url.path, status=422, title="The request does not fit its type",
                            detail=detail, kind="invalid-request", errors=found)  # fmt: skip


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  how it was registered
    return problem_response(request.url.path, status=error.status_code, title=str(error.detail),
                            detail=str(error.detail), headers=dict(error.headers or {}))  # fmt: skip


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem_response(request.url.path, status=500, title="Internal error",
                            detail="An error of the platform; the request id finds it in the logs.")  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
