"""Finds the person of a request: by the cookie of a session, or by the header of a proxy that logs people in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from laneway.platform.access.caller import Caller
from laneway.platform.access.logins import Logins, browser_of
from laneway.platform.access.roles import Person, Roles
from laneway.platform.access.sessions import Sessions
from laneway.platform.db.session import Database
from laneway.platform.settings import Settings
from laneway.platform.settings.people import names_in
from laneway.platform.settings.stored_secret import stored_secret

if TYPE_CHECKING:  # it brings heavy packages
    from laneway.platform.access.oidc import Provider

SESSION_KEY_FILE: Final = "session-secret"
LONGEST_NAME: Final = 200
"""Characters of a person's name in a proxy's header."""

AllValues = Callable[[str], list[str]]
"""Returns all values of a header, by its name."""


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """Who sends a request."""

    caller: Caller
    subject: str
    """What the CSRF token of the person's writes is made for."""


class People:
    """The people of a platform: their provider or proxy, their roles and sessions."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._all, self.settings = settings, settings.people
        self.roles = Roles(settings.people)
        self.logins = Logins(database, settings.people)

    @property
    def public_url(self) -> str:
        """Where browsers reach the API, without a slash at the end."""
        api = self._all.api
        return (self.settings.public_url or _address(api.host, api.port)).rstrip("/")

    @property
    def flower_url(self) -> str:
        """Where browsers reach Flower, without a slash at the end."""
        api = self._all.api
        return (self.settings.flower_public_url or _address(api.flower_host, api.flower_port)).rstrip("/")

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions. Raises SecretFileUnusable."""
        given = self.settings.session_secret
        path = self._all.storage.folder / SESSION_KEY_FILE
        key = given.get_secret_value() if given else stored_secret(path, instead="SESSION_SECRET")
        previous = self.settings.session_secret_previous
        keys = [key, *([previous.get_secret_value()] if previous else [])]
        secure = self.public_url.startswith("https://")
        return Sessions(keys, self.roles, hours=self.settings.session_hours, secure=secure)

    @cached_property
    def provider(self) -> Provider | None:
        """The identity provider; None if the settings name none."""
        if self.settings.issuer is None:
            return None
        from laneway.platform.access.oidc import Provider

        return Provider(self.settings, redirect=f"{self.public_url}/login/callback")

    def find(self, *, cookie: str | None, address: str | None, headers: AllValues) -> FoundPerson | None:
        """The person of a request; None if it names nobody, or somebody who has no role.

        `cookie`: the value of the session's cookie. `address`: who has opened the connection.
        Raises DatabaseUnavailable.
        """
        return self._of_session(cookie) or self._of_proxy(address, headers)

    def session_of(self, cookie: str | None) -> str | None:
        """The id of the session that a cookie names, whether it has ended or not."""
        return self.sessions.read(cookie) if cookie and self.settings.issuer else None

    def needs_database(self, cookie: str | None) -> bool:
        """Whether `find` asks the database about this cookie."""
        id = self.session_of(cookie)
        return id is not None and not self.logins.is_cached(id)

    def _of_session(self, cookie: str | None) -> FoundPerson | None:
        id = self.session_of(cookie)
        login = self.logins.find(id) if id else None
        return FoundPerson(self.sessions.person(login.person, login.role), browser_of(id)) if login and id else None

    def _of_proxy(self, address: str | None, headers: AllValues) -> FoundPerson | None:
        header = self.settings.proxy_user_header
        if header is None or not self._is_proxy(address):
            return None
        names = headers(header)
        if len(names) != 1:  # none, or one of the proxy's and one that somebody else has added
            return None
        name = names[0].strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            return None
        groups = headers(self.settings.proxy_groups_header) if self.settings.proxy_groups_header else []
        groups = groups if len(groups) == 1 else []
        person = Person(name, name if "@" in name else None, frozenset(names_in(",".join(groups))))
        role = self.roles.role_of(person)
        return FoundPerson(self.sessions.person(name, role), f"proxy:{name}") if role else None

    def _is_proxy(self, address: str | None) -> bool:
        try:
            found = ip_address(address or "")
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in network for network in self.settings.proxy_networks)


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
