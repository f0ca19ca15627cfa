"""Refuses requests that a page of another site makes a browser send: by the host that they name, and their origin.

A page whose name is bound to this machine's address (DNS rebinding) has a foreign host. Any other page has a foreign
origin, which matters for requests that write. Programs send neither `Origin` nor `Sec-Fetch-Site`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from laneway.api.errors import platform_problem
from laneway.platform.access.errors import ForeignOrigin, OpenNetwork, UnknownHost
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.platform import Platform
from laneway.platform.settings import Settings
from laneway.platform.settings.access import is_address, is_loopback

log = logger(__name__)

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_PAGES: Final = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of a request of our own page, or of one that a person has typed or clicked outside of any page."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LONGEST: Final = 300
"""Characters of a header that are looked at and repeated."""


class HostCheck:
    """Refuses a foreign host with 421, and a write of a foreign page with 403.

    Without authentication it also refuses what arrives at an address that others reach.
    """

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        platform: Platform = self._api.state.services
        try:
            check(scope, platform.settings)
        except PlatformError as error:
            return await platform_problem(scope["path"], error)(scope, receive, send)
        return await self._app(scope, receive, send)


def check(scope: Scope, settings: Settings) -> None:
    """Raise UnknownHost, ForeignOrigin or OpenNetwork for a request that is not answered."""
    headers, server = Headers(scope=scope), str((scope.get("server") or ("",))[0])
    if not settings.is_authenticating and is_address(server) and not is_loopback(server):
        raise OpenNetwork(server)
    hosts = headers.getlist("host")
    host = _host_of(hosts[0]) if len(hosts) == 1 else ""
    if not _is_ours(host, server, settings):
        log.info("unknown host", host=", ".join(hosts)[:LONGEST])
        raise UnknownHost(", ".join(hosts)[:LONGEST])
    if scope["method"] not in READING:
        _check_origin(headers, hosts[0])


def _is_ours(host: str, server: str, settings: Settings) -> bool:
    if not host:
        return False
    if is_loopback(host) or host in (server, settings.api.host.lower()):
        return True
    return any(host == allowed or _is_below(host, allowed) for allowed in settings.access.allowed_hosts)


def _is_below(host: str, allowed: str) -> bool:
    """Whether a host is a name below example.com, for `*.example.com`."""
    return allowed.startswith("*.") and host.endswith(allowed[1:]) and len(host) > len(allowed) - 1


def _host_of(header: str) -> str:
    """The host of a Host header, without its port; empty if the header is not valid."""
    if len(header) > LONGEST or any(character in header for character in "/?#@\\, \t"):
        return ""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".")


def _check_origin(headers: Headers, host: str) -> None:
    site = headers.get("sec-fetch-site")
    if site is not None and site not in OWN_PAGES:
        raise ForeignOrigin("Sec-Fetch-Site", site[:LONGEST])
    for origin in headers.getlist("origin"):
        if not _is_same(origin, host):
            raise ForeignOrigin("Origin", origin[:LONGEST])


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is a page of this host and port. Its scheme is that of the proxy in front of the API."""
    try:
        own = urlsplit(origin)
        ours = urlsplit(f"//{host}")
        default = DEFAULT_PORTS.get(own.scheme)
        return default is not None and (own.hostname, own.port or default) == (ours.hostname, ours.port or default)
    except ValueError:
        return False
