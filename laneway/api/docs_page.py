"""Serves `/docs`: Swagger UI, or a plain list of the operations if the browser cannot load Swagger UI.

The browser loads Swagger UI from the internet. The list is inside the element of Swagger UI, which replaces it.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse

from laneway.api.access import requires
from laneway.platform.access.scopes import Scope

SWAGGER_ELEMENT: Final = '<div id="swagger-ui">'
STYLE: Final = (
    "font-family: system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5"
)
NO_ICON: Final = "data:,"


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`, and the OpenAPI document."""

    @app.get("/openapi.json", include_in_schema=False, dependencies=[requires(Scope.READ, bound=True)])
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False, dependencies=[requires(Scope.READ, bound=True)])
    def docs() -> HTMLResponse:
        page = get_swagger_ui_html(openapi_url="/openapi.json", title=app.title, swagger_favicon_url=NO_ICON)
        return HTMLResponse(
            bytes(page.body).decode().replace(SWAGGER_ELEMENT, SWAGGER_ELEMENT + _operation_list(app.openapi()), 1)
        )


def _operation_list(document: dict[str, Any]) -> str:
    """Every operation with method, path and description, grouped by tag, as HTML."""
    info = document["info"]
    operations = sorted(
        (operation.get("tags", [""])[0], path, method.upper(), operation.get("description", operation["summary"]))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    parts = [
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>",
        "<p>This is a plain list; Swagger UI replaces it if the browser reaches the internet. "
        'All details: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for tag, of_tag in groupby(operations, key=lambda operation: operation[0]):
        rows = "".join(
            f"<tr><td>{method}</td><td><code>{escape(path)}</code></td><td>{escape(description)}</td></tr>"
            for _, path, method, description in of_tag
        )
        parts.append(f'<h2>{escape(tag)}</h2><table cellpadding="4">{rows}</table>')
    return f'<div style="{STYLE}">{"".join(parts)}</div>'
