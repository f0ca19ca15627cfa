"""Flower behind the login of the platform: the same sessions, roles and proxy. Flower's configuration calls `protect`.

1. Everything but the health check and the style sheets needs a person who may read, or the password of Flower.
2. A browser without a session is led to the login of the API, and comes back.
3. Flower only reads, unless FLOWER_ALLOW_WRITES is set; viewers only read in any case.
4. A write must come from a page of Flower, and has its entry in the audit log.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from typing import Any, Final
from urllib.parse import quote, urlsplit

from flower.api import BaseApiHandler
from flower.urls import handlers
from flower.views import BaseHandler
from flower.views.monitor import Healthcheck
from flower.views.tasks import TasksDataTable
from tornado.httputil import HTTPServerRequest
from tornado.web import Finish, HTTPError, url

from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.people import People
from laneway.platform.access.scopes import Scope
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.settings import Settings
from laneway.server.flower_login import login

log = logger(__name__)

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LONGEST_HEADER: Final = 1000


def protect(settings: Settings) -> bool:
    """Make Flower ask for the login of these settings; returns whether Flower only reads. Call it before it starts.

    Raises ConfigError, FolderUnusable.
    """
    guard = FlowerGuard(settings)

    def prepare(handler: Any) -> None:
        guard.check(handler)

    def check_xsrf_cookie(handler: Any) -> None:
        """`prepare` has checked it."""

    for base in (BaseHandler, BaseApiHandler):
        vars_of: Any = base
        vars_of.prepare, vars_of.check_xsrf_cookie = prepare, check_xsrf_cookie
        vars_of.get_current_user = current_user
    people = {"people": guard.people}
    handlers[:0] = [url(r"/login/?", ToLogin, people), url(r"/logout", ToLogout, people)]
    return not settings.people.flower_writes


def current_user(handler: Any) -> object:
    """Whom `prepare` has let in."""
    return getattr(handler, "laneway_caller", None)


class FlowerGuard:
    """Decides who may see Flower, and who may change something with it."""

    def __init__(self, settings: Settings) -> None:
        database = Database(settings.storage.url)
        self.people, self._audit_log = People(settings, database), AuditLog(database)
        self._writes = settings.people.flower_writes
        asks_people = settings.people.asks_people
        self._login = None if asks_people and settings.api.flower_password is None else login(settings)
        """`user:password`. With people, the password must have been set: a generated one would be a second door."""

    def check(self, handler: BaseHandler) -> None:
        """Let a request in, lead it to the login (by Finish), or raise Tornado's HTTPError: 401 or 403."""
        if isinstance(handler, Healthcheck | ToLogin | ToLogout):
            return
        request = handler.request
        try:
            caller = self._caller(handler)
        except PlatformError as error:
            log.warning("a session cannot be read", error=str(error))
            raise HTTPError(503, "The database is not available") from error
        handler.laneway_caller = caller
        if caller is None:
            if self.people.settings.asks_people and _is_of_browser(request):
                handler.redirect(self._login_address(handler), status=303)
                raise Finish
            raise HTTPError(401)
        if not caller.may(Scope.READ):
            raise HTTPError(403, f"{caller.name} may not read here: it needs the scope {Scope.READ}")
        if request.method not in READS and not isinstance(handler, TasksDataTable):
            self._check_write(caller, request)

    def _check_write(self, caller: Caller, request: HTTPServerRequest) -> None:
        if not self._writes:
            raise HTTPError(403, "Flower only reads here: set FLOWER_ALLOW_WRITES, or use the API or laneway")
        if not caller.may(Scope.OPERATE):
            raise HTTPError(403, f"{caller.name} may only read")
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        is_ours = site == "same-origin" if site else origin is not None and urlsplit(origin).netloc == request.host
        is_program = site is None and origin is None and "Authorization" in request.headers
        if not is_ours and not is_program:
            raise HTTPError(403, "A page of another site may not change anything here")
        try:
            with acting_as(caller):
                self._audit_log.record("flower.write", ("flower", urlsplit(request.uri or "/").path))
        except PlatformError as error:
            log.warning("a write has no entry in the audit log", error=str(error))
            raise HTTPError(503, "The audit log cannot be written, so nothing is changed") from error

    def _login_address(self, handler: BaseHandler) -> str:
        """The login of the API; a session that only waits for the provider goes there at once."""
        known = self.people.session_of(handler.get_cookie(self.people.sessions.cookie)) is not None
        return _login_address(self.people, handler.request.uri or "/", page="/login/start" if known else "/login")

    def _caller(self, handler: BaseHandler) -> Caller | None:
        request = handler.request
        if "Authorization" in request.headers:
            return self._by_password(request.headers["Authorization"])
        found = self.people.find(
            cookie=handler.get_cookie(self.people.sessions.cookie),
            address=request.remote_ip,
            headers=request.headers.get_list,
        )
        return found.caller if found else None

    def _by_password(self, header: str) -> Caller | None:
        kind, _, encoded = header.partition(" ")
        if self._login is None or kind.lower() != "basic" or len(header) > LONGEST_HEADER:
            return None
        try:
            given = b64decode(encoded.strip(), validate=True)
        except ValueError:
            return None
        if not hmac.compare_digest(given, self._login.encode()):
            return None
        scopes = frozenset({Scope.READ, Scope.OPERATE})
        return Caller(kind="person", name=self._login.partition(":")[0], scopes=scopes)


class ToLogin(BaseHandler):
    """`/login`: leads to the login of the API."""

    def initialize(self, people: People) -> None:
        self._people = people

    def get(self) -> None:
        self.redirect(_login_address(self._people, "/"), status=303)


class ToLogout(ToLogin):
    """`/logout`: leads to the page of the API that ends the session."""

    def get(self) -> None:
        self.redirect(f"{self._people.public_url}/logout", status=303)


def _is_of_browser(request: HTTPServerRequest) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("Accept", "")


def _login_address(people: People, path: str, *, page: str = "/login") -> str:
    return f"{people.public_url}{page}?next={quote(people.flower_url + path, safe='')}"
