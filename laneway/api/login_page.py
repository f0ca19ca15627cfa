"""The pages of a login, as plain HTML without scripts and styles: log in, log out, and why neither is possible."""

from __future__ import annotations

from html import escape
from urllib.parse import quote, urlsplit

from fastapi.responses import HTMLResponse, RedirectResponse

from laneway.platform.access.people import People

NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def login_page(people: People, target: str) -> HTMLResponse:
    """The page that leads to the provider, and from there to `target`."""
    settings = people.settings
    if settings.issuer:
        host = escape(urlsplit(settings.issuer).netloc)
        return page("Log in", f'<p><a href="/login/start?next={quote(target, safe="")}">Log in with {host}</a></p>')
    if settings.proxy_user_header:
        return page("Log in", f"<p>The proxy in front of {escape(people.public_url)} logs people in. Open that.</p>")
    return page(
        "Log in",
        "<p>Nobody can log in: the settings name neither an identity provider (<code>OIDC_ISSUER</code>) nor a proxy "
        "(<code>PROXY_USER_HEADER</code>).</p>",
    )


def to_login(target: str, *, at_once: bool) -> RedirectResponse:
    """Lead a browser to the login, and back to `target`. `at_once`: without a page of ours before the provider."""
    page = "/login/start" if at_once else "/login"
    return RedirectResponse(f"{page}?next={quote(target, safe='')}", 303, NO_STORE)


def logout_page(name: str, csrf_token: str) -> HTMLResponse:
    """The page with the button that ends a session."""
    return page(
        "Log out",
        f"<p>You are {escape(name)}.</p>"
        '<form method="post" action="/logout">'
        f'<input type="hidden" name="csrf_token" value="{escape(csrf_token)}"><button>Log out</button></form>',
    )


def refused_page(reason: str, status: int) -> HTMLResponse:
    """The page that says why a login failed."""
    return page("Not logged in", f'<p>{escape(reason)}</p><p><a href="/login">Try again</a></p>', status)


def page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """A page with this title; `body` is HTML."""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><h1>{escape(title)}</h1>{body}</html>",
        status,
        NO_STORE,
    )


def safe_target(target: str, people: People) -> str:
    """Where a login may lead: a path of the API, or an address of Flower. Anything else becomes `/docs`."""
    if not target.isascii() or not target.isprintable() or "\\" in target:
        return "/docs"
    if target.startswith("/") and not target.startswith("//"):
        return target
    is_flower = target == people.flower_url or target.startswith(people.flower_url + "/")
    return target if is_flower else "/docs"
