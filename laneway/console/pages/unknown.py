"""The page for an address of the console that does not exist. Its router comes after those of all other pages."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.scopes import Scope

router = APIRouter(include_in_schema=False, route_class=PageRoute)
pages = Pages()


@router.get("/console/{path:path}", dependencies=[requires(Scope.READ)])
async def show_unknown(request: Request, path: str) -> Response:
    """Say that there is no such page."""
    detail = f"The console has no page {path!r}. The address may be misspelt, or of another version."
    return await pages.explain(request, "There is no such page", detail, status=404)
