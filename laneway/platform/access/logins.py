"""The logins of people: which sessions exist, whose they are, and when they end.

1. A session is a row. Its cookie has the session's id, and the database has the digest of it.
2. It ends by a logout, by an operator, and `SESSION_HOURS` after it began. Every process notices that within
   `CACHE_SECONDS`.
3. `SESSION_CHECK_MINUTES` after the identity provider has last said who the person is, the session counts no more until
   the provider has said it again. A person without a role at that moment loses all sessions; another role holds in all.
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

from laneway.platform import clock
from laneway.platform.access.roles import Person, Role
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import PersonSession
from laneway.platform.db.queries import person_sessions as repository
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


@dataclass(frozen=True, slots=True)
class Login:
    """One session of a person."""

    person: str
    role: Role
    began_at: datetime
    confirmed_at: datetime


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

        `continues`: the id of a session that the browser has. If it is this person's, it goes on and keeps its id. In
        any case the role holds in all sessions of the person.
        """
        name, now = person.name[:LONGEST_NAME], clock.now()
        with self._database.transaction() as session:
            before = repository.roles_of(session, name) - {role.value}
            if before:
                repository.set_role(session, name, role.value)
            known = repository.find(session, digest_of(continues), lock=True) if continues else None
            if continues and known is not None and known.person == name and known.began_at > now - self._lasts:
                known.confirmed_at, id = now, continues
            else:
                if known is not None:  # the browser has the session of somebody else
                    session.delete(known)
                id = secrets.token_urlsafe(16)
                session.add(
                    PersonSession(digest=digest_of(id), person=name, role=role.value, began_at=now, confirmed_at=now)
                )
                session.flush()
                record(session, "person.login", ("person", name), after={"role": role.value})
            if before:
                record(session, "person.role", ("person", name), before={"roles": sorted(before)}, after={"role": role})
        self._forget()
        return id

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
        if login is None or login.began_at <= now - self._lasts:
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
        """End a session, if it has not ended."""
        login = self._read(id)
        if login is None:
            return
        with self._database.transaction() as session:
            if repository.end(session, digest_of(id)):
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
    """What the database has of a session's id."""
    return hashlib.sha256(id.encode()).hexdigest()


def _login(row: PersonSession) -> Login:
    return Login(row.person, Role(row.role), row.began_at, row.confirmed_at)


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
