"""The logins of people: which sessions exist, whose they are, and when they end.

1. A session is a row. Its cookie has the session's id, and the database has the digest of it.
2. It ends by a logout, by an operator, and `SESSION_HOURS` after it began. Every process notices that within
   `CACHE_SECONDS`.
3. `SESSION_CHECK_MINUTES` after the identity provider has last said who the person is, the session counts no more until
   the provider has said it again. A person without a role at that moment loses all sessions; another role holds in all.
4. Each time the provider names the person, the session gets another id: a copy of the old cookie counts no more. The
   old id still counts for `OVERLAP`, because the browser may have sent other requests with it.

An id is `BROWSER.SECRET`. The first part stays when the id is replaced; CSRF tokens are made for it, so that open pages
go on to work. It opens nothing by itself.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.roles import Person, Role
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import PersonSession
from laneway.platform.db.queries import person_sessions as repository
from laneway.platform.db.queries.person_sessions import PersonSummary
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.settings.people import PeopleSettings
from laneway.schemas.session import SessionView

log = logger(__name__)

CACHE_SECONDS: Final = 2.0
"""A process does not ask the database again about a session that it has read within this time."""
CACHED: Final = 1000
"""Sessions that a process keeps in mind."""
MOST_LISTED: Final = 1000
LONGEST_NAME: Final = 255
BROWSER_DIGITS: Final = 32
"""Hexadecimal digits of a digest that are of the part that stays; as many are of the whole id."""
OVERLAP: Final = timedelta(seconds=10)
"""How long an id counts after it was replaced."""


@dataclass(frozen=True, slots=True)
class Login:
    """One session of a person."""

    person: str
    role: Role
    began_at: datetime
    confirmed_at: datetime
    replaced_until: datetime | None = None
    """Until when the id counts that was replaced; None for the present one."""

    def is_over(self, now: datetime) -> bool:
        """Whether the id was replaced, and counts no more."""
        return self.replaced_until is not None and self.replaced_until <= now


class Logins:
    """Begins, finds and ends the sessions of people."""

    def __init__(self, database: Database, settings: PeopleSettings) -> None:
        self._database = database
        self._lasts = timedelta(hours=settings.session_hours)
        self._confirmed_for = timedelta(minutes=settings.session_check_minutes)
        self._cache: OrderedDict[str, tuple[float, Login | None]] = OrderedDict()
        self._lock = Lock()

    def begin(self, person: Person, role: Role, *, continues: str | None = None) -> str:
        """Begin a session of a person whom the provider has named just now; returns the session's id.

        `continues`: the id of a session that the browser has. If it is this person's, it goes on, with another id. In
        any case the role holds in all sessions of the person.
        """
        name, now = person.name[:LONGEST_NAME], clock.now()
        with self._database.transaction() as session:
            before = repository.roles_of(session, name) - {role.value}
            if before:
                repository.set_role(session, name, role.value)
            repository.delete_replaced(session, name, now=now)
            began_at = self._replace(session, continues, name, now=now) if continues else None
            goes_on = began_at is not None
            browser = browser_of(continues) if goes_on and continues else secrets.token_urlsafe(16)
            id = f"{browser}.{secrets.token_urlsafe(16)}"
            began_at = began_at or now
            session.add(
                PersonSession(
                    digest=digest_of(id),
                    person=name,
                    role=role.value,
                    began_at=began_at,
                    confirmed_at=max(now, began_at),  # clocks of machines differ
                )
            )
            if not goes_on:
                session.flush()
                record(session, "person.login", ("person", name), after={"role": role.value})
            if before:
                record(session, "person.role", ("person", name), before={"roles": sorted(before)}, after={"role": role})
        self._forget()
        return id

    def _replace(self, session: Session, id: str, person: str, *, now: datetime) -> datetime | None:
        """Replace the id of a session that goes on; returns when the session began. None: it does not go on.

        Of two requests of one browser, the second one replaces what the first one has made.
        """
        known = repository.find(session, digest_of(id), lock=True)
        if known is None or _login(known).is_over(now):
            return None
        if known.person != person or (not known.is_replaced and known.began_at <= now - self._lasts):
            session.delete(known)  # the browser has the session of somebody else, or one that has ended
            return None
        rows = [row for row in repository.of_browser(session, _browser_digest(id)) if not row.is_replaced]
        began_at = min((row.began_at for row in rows), default=now)
        for row in rows:
            row.replace(until=now + OVERLAP, now=now)
        return began_at

    def refuse(self, person: Person) -> None:
        """Record that a person without a role was not let in, and end what sessions the person has."""
        name = person.name[:LONGEST_NAME]
        with self._database.transaction() as session:
            ended = repository.end_all(session, name)
            record(session, "person.refuse", ("person", name), after={"sessions_ended": ended})
        self._forget()

    def find(self, id: str) -> Login | None:
        """The session of an id; None if it has ended, or waits for the provider. Raises DatabaseUnavailable."""
        login, now = self._read(id), clock.now()
        if login is None or login.is_over(now) or login.began_at <= now - self._lasts:
            return None
        return None if login.confirmed_at <= now - self._confirmed_for else login

    def is_cached(self, id: str) -> bool:
        """Whether `find` knows this session without the database."""
        return self._cached(digest_of(id)) is not None

    def person_of(self, id: str) -> str | None:
        """Whose session this is, also if it waits for the provider; None if it has ended."""
        login = self._read(id)
        return login.person if login else None

    def end(self, id: str) -> None:
        """End a session, if it has not ended, also by an id that was just replaced."""
        login = self._read(id)
        if login is None or login.is_over(clock.now()):
            return
        with self._database.transaction() as session:
            if repository.end_of_browser(session, _browser_digest(id)):
                record(session, "person.logout", ("person", login.person))
        self._forget()

    def end_all(self, person: str) -> int:
        """End all sessions of a person; returns how many. Other processes notice it within `CACHE_SECONDS`."""
        with self._database.transaction() as session:
            ended = repository.end_all(session, person)
            record(session, "person.end_sessions", ("person", person), before={"sessions": ended})
        self._forget()
        log.info("sessions ended", person=person, sessions=ended)
        return ended

    def listing(self) -> Sequence[Login]:
        """The sessions that have not ended, the latest first, at most `MOST_LISTED`."""
        with self._database.reading() as session:
            rows = repository.listing(session, since=clock.now() - self._lasts, limit=MOST_LISTED)
            return [_login(row) for row in rows]

    def people(self, *, part: str = "", limit: int) -> list[PersonSummary]:
        """Who has sessions that have not ended; who has logged in last comes first. `part`: of their names."""
        now = clock.now()
        since, until = now - self._lasts, now - self._confirmed_for
        with self._database.reading() as session:
            return repository.people(session, since=since, unconfirmed_until=until, part=part, limit=limit)

    def is_confirmed(self, login: Login) -> bool:
        """Whether the session counts; else it waits until the provider has named the person again."""
        return login.confirmed_at > clock.now() - self._confirmed_for

    def _read(self, id: str) -> Login | None:
        digest = digest_of(id)
        if (known := self._cached(digest)) is not None:
            return known[1]
        with self._database.reading() as session:
            row = repository.find(session, digest)
        login = None if row is None else _login(row)
        with self._lock:
            self._cache[digest] = (monotonic(), login)
            self._cache.move_to_end(digest)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return login

    def _cached(self, digest: str) -> tuple[float, Login | None] | None:
        with self._lock:
            known = self._cache.get(digest)
        return known if known is not None and monotonic() - known[0] < CACHE_SECONDS else None

    def _forget(self) -> None:
        with self._lock:
            self._cache.clear()


def digest_of(id: str) -> str:
    """What the database has of a session's id: digests of the part that stays, and of the whole."""
    if "." not in id:  # of a session that began before ids were replaced
        return _sha256(id)
    return _browser_digest(id) + _sha256(id)[:BROWSER_DIGITS]


def browser_of(id: str) -> str:
    """The part of an id that stays when the id is replaced."""
    return id.partition(".")[0]


def _browser_digest(id: str) -> str:
    return _sha256(browser_of(id))[:BROWSER_DIGITS]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _login(row: PersonSession) -> Login:
    until = row.began_at if row.is_replaced else None
    return Login(row.person, Role(row.role), row.began_at, row.confirmed_at, until)


def session_views(logins: Logins) -> list[SessionView]:
    """The sessions that have not ended, as API and command line show them."""
    return [
        SessionView(
            person=login.person,
            role=login.role.value,
            began_at=login.began_at,
            confirmed_at=login.confirmed_at,
            confirmed=logins.is_confirmed(login),
        )
        for login in logins.listing()
    ]
