"""The tokens with which programs use the API.

1. A token is shown once, when it is made. The database has its digest only.
2. A rotation makes a new token of the same rights. The one before it is accepted for an overlap.
3. A token ends by its expiry or by a revocation; every process notices that within `CACHE_SECONDS`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.caller import Caller, current_caller
from laneway.platform.access.errors import NotAuthenticated, TokenExists, TokenRevoked, UnknownToken
from laneway.platform.access.token_form import digest_of, is_well_formed, make_token
from laneway.platform.access.token_rights import TokenRights, check_expiry, checked
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import AccessToken
from laneway.platform.db.queries import tokens as repository
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.logging import logger

log = logger(__name__)

CACHE_SECONDS: Final = 2.0
"""A process does not ask the database again about a token that it has checked within this time."""
CACHED: Final = 1000
"""Tokens that a process keeps in mind."""
USED_SECONDS: Final = 300.0
"""The time of the last use is stored at most once in this time."""
USED_WAIT_SECONDS: Final = 0.1
"""A request waits no longer than this to store that its token is used; a later request does it then."""
MOST_LISTED: Final = 1000
TEMPORARY: Final = "temporary-"
TEMPORARY_LASTS: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. Nobody can show it again."""

    token: str
    row: AccessToken


class Tokens:
    """Makes, checks and ends tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[str, tuple[float, AccessToken]] = OrderedDict()
        self._lock = Lock()

    def create(self, name: str, rights: TokenRights, *, expires: timedelta | None) -> NewToken:
        """Make a token. `expires`: None for a token that never expires. Raises InvalidToken, TokenExists."""
        checked(name, rights, expires)
        token, now = make_token(), clock.now()
        row = AccessToken(
            name=name,
            digest=digest_of(token),
            scopes=sorted(rights.scopes),
            queues=_listed(rights.queues),
            names=_listed(rights.names),
            tenant=rights.tenant,
            created_at=now,
            created_by=current_caller().name,
            expires_at=None if expires is None else now + expires,
        )
        with self._database.transaction() as session:
            if repository.find(session, name) is not None:
                raise TokenExists(name)
            session.add(row)
            record(session, "token.create", ("token", name), after=_rights(row))
        log.info("token created", token=name, scopes=row.scopes, tenant=row.tenant)
        return NewToken(token, row)

    def listing(self, *, part: str = "", limit: int = MOST_LISTED) -> list[AccessToken]:
        """The tokens by name; also those that are over. `part`: of their names."""
        with self._database.reading() as session:
            return list(repository.listing(session, part=part, limit=limit))

    def rotate(self, name: str, *, overlap: timedelta, expires: timedelta | None = None) -> NewToken:
        """Make a new token in the place of one; that one is accepted for `overlap` more, unless it expires before.

        `expires`: from now; None: as far from now as the old one had been from its creation or its last rotation.
        Raises UnknownToken, TokenRevoked, InvalidToken.
        """
        check_expiry(name, expires)
        token, now = make_token(), clock.now()
        with self._database.transaction() as session:
            row = _found(session, name)
            if row.revoked_at is not None:
                raise TokenRevoked(name)
            row.old_digest, row.old_until = row.digest, min(now + overlap, row.expires_at or now + overlap)
            row.expires_at = _next_expiry(row, now, expires)
            row.digest, row.rotated_at = digest_of(token), now
            record(session, "token.rotate", ("token", name), after=_rights(row) | {"old_until": row.old_until})
        self._forget()
        log.info("token rotated", token=name, overlap_seconds=overlap.total_seconds())
        return NewToken(token, row)

    def revoke(self, name: str) -> AccessToken:
        """End a token now; other processes notice it within `CACHE_SECONDS`. A repeat changes nothing.

        Raises UnknownToken.
        """
        with self._database.transaction() as session:
            row = _found(session, name)
            if row.revoked_at is None:
                row.revoked_at = clock.now()
                record(session, "token.revoke", ("token", name), before=_rights(row))
        self._forget()
        log.info("token revoked", token=name)
        return row

    @contextmanager
    def temporary(self, purpose: str, *scopes: str) -> Generator[str]:
        """A token that exists in this block, for a program of the platform that calls its own API."""
        name = f"{TEMPORARY}{purpose}-{secrets.token_hex(4)}"
        with self._database.transaction() as session:
            repository.delete_expired(session, TEMPORARY, now=clock.now())
        made = self.create(name, TokenRights(scopes=frozenset(scopes)), expires=TEMPORARY_LASTS)
        try:
            yield made.token
        finally:
            with self._database.transaction() as session:
                repository.delete(session, name)

    def check(self, token: str) -> Caller:
        """Return who has this token. Raises NotAuthenticated, DatabaseUnavailable."""
        if not is_well_formed(token):
            raise NotAuthenticated("this is no token of Laneway, or a part of it is missing")
        digest = digest_of(token)
        row = self._cached(digest) or self._read(digest)
        now = clock.now()
        if row.revoked_at is not None:
            raise NotAuthenticated("the token is revoked")
        if row.expires_at is not None and row.expires_at <= now and row.digest == digest:
            raise NotAuthenticated("the token has expired")
        if row.digest != digest and (row.old_until is None or row.old_until <= now):
            raise NotAuthenticated("the token was rotated")
        self._mark_used(row, now)
        return caller_of(row)

    def is_cached(self, token: str) -> bool:
        """Whether `check` knows this token without the database."""
        return self._cached(digest_of(token)) is not None

    def _cached(self, digest: str) -> AccessToken | None:
        with self._lock:
            known = self._cache.get(digest)
        return known[1] if known is not None and monotonic() - known[0] < CACHE_SECONDS else None

    def _read(self, digest: str) -> AccessToken:
        with self._database.reading() as session:
            row = repository.by_digest(session, digest)
        if row is None:
            raise NotAuthenticated("the token is unknown")
        with self._lock:
            self._cache[digest] = (monotonic(), row)
            self._cache.move_to_end(digest)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return row

    def _forget(self) -> None:
        with self._lock:
            self._cache.clear()

    def _mark_used(self, row: AccessToken, now: datetime) -> None:
        since = now - timedelta(seconds=USED_SECONDS)
        if row.used_at is not None and row.used_at >= since:
            return
        row.used_at = now  # of the cached row: the next requests need not store it
        with suppress(DatabaseUnavailable), limit_waits(USED_WAIT_SECONDS), self._database.transaction() as session:
            repository.mark_used(session, row.name, now=now, unless_since=since)


def caller_of(row: AccessToken) -> Caller:
    """The caller that a token stands for."""
    return Caller(
        kind="token",
        name=row.name,
        scopes=frozenset(row.scopes),
        tenant=row.tenant,
        queues=None if row.queues is None else frozenset(row.queues),
        names=None if row.names is None else frozenset(row.names),
    )


def state_of(row: AccessToken) -> str:
    """`valid`, `expired` or `revoked`."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= clock.now() else "valid"


def _rights(row: AccessToken) -> dict[str, Any]:
    """What the audit log says of a token."""
    shown = ("scopes", "queues", "names", "tenant", "expires_at")
    return {name: value for name in shown if (value := getattr(row, name)) is not None}


def _found(session: Session, name: str) -> AccessToken:
    row = repository.find(session, name, lock=True)
    if row is None:
        raise UnknownToken(name, repository.names(session))
    return row


def _next_expiry(row: AccessToken, now: datetime, expires: timedelta | None) -> datetime | None:
    if expires is not None:
        return now + expires
    return None if row.expires_at is None else now + (row.expires_at - (row.rotated_at or row.created_at))


def _listed(values: frozenset[str] | None) -> list[str] | None:
    return None if values is None else sorted(values)
