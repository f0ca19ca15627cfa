"""Renders pages from templates, and keeps an open page up to date."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import cache, partial
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response, StreamingResponse

from laneway.api.errors import INVALID, field_problems, public_detail, summary
from laneway.api.people import person_of
from laneway.api.threads import ThreadedRoute, read_in_thread
from laneway.api.waiting import hold
from laneway.console.assets import asset
from laneway.console.formats import FILTERS
from laneway.console.live import LivePages
from laneway.platform import clock
from laneway.platform.access.caller import acting_as, current_caller
from laneway.platform.errors import PlatformError
from laneway.platform.logging import without_secrets
from laneway.platform.platform import Platform

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of each page: its own files, and no script or style within the page."""
STREAM: Final = "text/event-stream"
LIBRARY: Final = "laneway.console"
LAYOUT: Final = "layout.html"
LIVE: Final = "live.html"
"""What a page's template extends: all around a page, or nothing."""

Values = Callable[[], Mapping[str, Any]]
"""Reads what a page shows. It is called in a thread, again and again while the page is open."""


class Pages:
    """The pages of a package: templates in its folder `templates`, and those of the console below them."""

    def __init__(self, package: str = LIBRARY) -> None:
        self._templates = _templates(package)

    async def show(
        self, request: Request, template: str, values: Values, *, live: bool = True, status: int = 200
    ) -> Response:
        """A page. `live`: its block `live` is sent again whenever it changes, while the page is open.

        The page connects to its own address for that. `values` must return all that the template needs. If it raises a
        PlatformError, such as UnknownTask, the page says so, with the status of the error.
        """
        if live and STREAM in request.headers.get("accept", ""):
            return self._stream(request, template, values)
        try:
            html = await read_in_thread(self._page, request, template, values, live=live)
        except PlatformError as error:
            return await self.explain(request, error.title, public_detail(error), status=error.status)
        return HTMLResponse(html, status, {"Content-Security-Policy": POLICY})

    async def explain(self, request: Request, problem: str, detail: str, *, status: int) -> Response:
        """A page that says why there is no other."""
        values = {"problem": problem, "detail": detail}
        html = await read_in_thread(self._page, request, "problem.html", lambda: values, live=False)
        return HTMLResponse(html, status, {"Content-Security-Policy": POLICY})

    def _page(self, request: Request, template: str, values: Values, *, live: bool) -> str:
        platform: Platform = request.app.state.services
        caller = current_caller()
        frame = {
            "layout": LAYOUT,
            "application": request.app.title,
            "caller": caller,
            "csrf_token": _csrf_token(request, platform),
            "is_authenticating": platform.settings.is_authenticating,
            "live_url": str(request.url.path) + (f"?{request.url.query}" if request.url.query else "") if live else "",
            "navigation": [each for each in request.app.state.navigation if caller.may(each.scope)],
            "path": request.url.path,
        }
        return self._templates.get_template(template).render(frame | dict(values()))

    def _block(self, template: str, values: Values) -> str:
        """The block `live` alone, with what the template imports."""
        return self._templates.get_template(template).render(layout=LIVE, caller=current_caller(), **values())

    def _stream(self, request: Request, template: str, values: Values) -> Response:
        caller = current_caller()

        def render() -> str:
            with acting_as(caller):
                return self._block(template, values)

        key = (request.url.path, request.url.query, tuple(sorted(caller.scopes)))
        updates = _live_pages(request).watch(key, render)
        return StreamingResponse(hold(request, updates), media_type=STREAM)


class PageRoute(ThreadedRoute):
    """The route of a page: a request that is not valid gets a page that says so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                detail = summary(field_problems(error))
                return await _library_pages().explain(request, INVALID, detail, status=422)

        return handle_or_explain


@cache
def _templates(package: str) -> Any:
    """The templates of a package. Its pages share them, because to compile `ui.html` takes a twentieth of a second."""
    packages = dict.fromkeys((package, LIBRARY))
    templates: Any = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(FILTERS, path=path_of, without_secrets=without_secrets)
    templates.globals.update(asset=asset, clock=clock, query=query)
    templates.globals["ui"] = templates.get_template("ui.html").module
    return templates


@cache
def _library_pages() -> Pages:
    return Pages()


def _live_pages(request: Request) -> LivePages:
    state = request.app.state
    if not hasattr(state, "live_pages"):
        state.live_pages = LivePages(partial(_is_stopping, request.app))
    return state.live_pages


def _is_stopping(app: Any) -> bool:
    platform: Platform = app.state.services
    return platform.event_stream.stopped


def _csrf_token(request: Request, platform: Platform) -> str:
    """The token that writes of this session need; empty if there is no session."""
    if not platform.settings.is_authenticating or not platform.settings.people.asks_people:
        return ""
    found = person_of(request.scope, platform.people)
    return platform.people.sessions.csrf_token(found.subject) if found else ""


def query(values: Mapping[str, Any], **changes: Any) -> str:
    """An address's query of these parameters with changes; those without a value are left out."""
    merged = {**values, **changes}
    text = urlencode({name: value for name, value in merged.items() if value not in (None, "", [], ())}, doseq=True)
    return f"?{text}" if text else "?"


def path_of(id: str) -> str:
    """An id as a part of an address's path."""
    return quote(id, safe="")
