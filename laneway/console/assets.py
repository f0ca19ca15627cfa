"""The console's style sheets and scripts, served from memory. Their addresses change with their content."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from laneway.api.access import public
from laneway.api.threads import ThreadedRoute

router = APIRouter(prefix="/console/static", include_in_schema=False, route_class=ThreadedRoute)

TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
NAMES: Final = (
    *("console.css", "console.js", "forms.js", "feed.js", "chart.js", "theme.js", "favicon.svg"),
    *("vendor/htmx.min.js", "vendor/hx-sse.min.js", "vendor/uplot.min.js", "vendor/uplot.min.css"),
)
YEAR: Final = "public, max-age=31536000, immutable"


@router.get("/{name:path}", dependencies=[public("style and scripts, which contain no data")])
def show_asset(name: str) -> Response:
    """A file of the console."""
    suffix = name[name.rfind(".") :]
    if name not in NAMES:
        raise HTTPException(404)
    return Response(content(name), media_type=TYPES[suffix], headers={"Cache-Control": YEAR})


@cache
def content(name: str) -> bytes:
    """The content of a file in the folder `static`."""
    return files("laneway.console").joinpath("static", *name.split("/")).read_bytes()


@cache
def asset(name: str) -> str:
    """The address of a file."""
    return f"/console/static/{name}?v={hashlib.sha256(content(name)).hexdigest()[:12]}"
