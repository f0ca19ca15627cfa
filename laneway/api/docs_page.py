"""`/docs`: the API described by Swagger UI, which the browser loads from a network; without one, by a plain list.

The list stands where Swagger UI puts itself when it comes, and is gone then.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

PLACE: Final = '<div id="swagger-ui">'
STYLE: Final = (
    "font-family: system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5"
)
NO_ICON: Final = "data:,"


def install(app: FastAPI) -> None:
    """Serve the page."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = get_swagger_ui_html(openapi_url="/openapi.json", title=app.title, swagger_favicon_url=NO_ICON)
        return HTMLResponse(bytes(page.body).decode().replace(PLACE, PLACE + _listed(app.openapi()), 1))


def _listed(document: dict[str, Any]) -> str:
    """Every operation: method, path and what it does, by the domain that it belongs to."""
    about = document["info"]
    found = sorted(
        (operation.get("tags", [""])[0], path, method.upper(), operation.get("description", operation["summary"]))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    parts = [
        f"<h1>{escape(about['title'])}</h1><p>{escape(about['description'])}</p>",
        "<p>A plain list; with a way to the internet Swagger UI takes its place. "
        'All details: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for tag, operations in groupby(found, key=lambda one: one[0]):
        rows = "".join(
            f"<tr><td>{method}</td><td><code>{escape(path)}</code></td><td>{escape(what)}</td></tr>"
            for _, path, method, what in operations
        )
        parts.append(f'<h2>{escape(tag)}</h2><table cellpadding="4">{rows}</table>')
    return f'<div style="{STYLE}">{"".join(parts)}</div>'
