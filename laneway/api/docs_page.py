"""Serves `/docs`: every operation with its path and description. The page needs no script and no other server."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from itertools import groupby
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from laneway.api.access import requires
from laneway.platform.access.scopes import Scope

STYLE: Final = (
    "body { font-family: system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; "
    "line-height: 1.5 } td { padding: 0.2rem 1rem 0.2rem 0; vertical-align: top }"
)
_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its style and nothing else."""


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`, and the OpenAPI document."""

    @app.get("/openapi.json", include_in_schema=False, dependencies=[requires(Scope.READ, bound=True)])
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False, dependencies=[requires(Scope.READ, bound=True)])
    def docs() -> HTMLResponse:
        return HTMLResponse(_page(app.title, app.openapi()), headers={"Content-Security-Policy": POLICY})


def _page(title: str, document: dict[str, Any]) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{_operation_list(document)}</body></html>'


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
        '<p>Parameters, bodies and responses: <a href="/openapi.json">/openapi.json</a>, for any OpenAPI viewer.</p>',
    ]
    for tag, of_tag in groupby(operations, key=lambda operation: operation[0]):
        rows = "".join(
            f"<tr><td>{method}</td><td><code>{escape(path)}</code></td><td>{escape(description)}</td></tr>"
            for _, path, method, description in of_tag
        )
        parts.append(f"<h2>{escape(tag)}</h2><table>{rows}</table>")
    return "".join(parts)
