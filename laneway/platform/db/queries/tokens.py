"""Queries over the tokens of the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete as delete_rows
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import AccessToken


def find(session: Session, name: str, *, lock: bool = False) -> AccessToken | None:
    """Return the token of a name; with `lock` it is locked until the end of the transaction."""
    return session.get(AccessToken, name, with_for_update=lock)


def by_digest(session: Session, digest: str) -> AccessToken | None:
    """Return the token of a digest, or of the digest before its last rotation."""
    either = or_(AccessToken.digest == digest, AccessToken.old_digest == digest)
    return session.scalars(select(AccessToken).where(either).limit(1)).first()


def listing(session: Session, *, part: str = "", limit: int) -> Sequence[AccessToken]:
    """Return the tokens, by name. `part`: of their names."""
    named = AccessToken.name.icontains(part, autoescape=True)
    return session.scalars(select(AccessToken).where(named).order_by(AccessToken.name).limit(limit)).all()


def names(session: Session) -> list[str]:
    """Return the names of all tokens."""
    return list(session.scalars(select(AccessToken.name).order_by(AccessToken.name)))


def delete(session: Session, name: str) -> None:
    """Delete a token."""
    session.execute(delete_rows(AccessToken).where(AccessToken.name == name))


def delete_expired(session: Session, prefix: str, *, now: datetime) -> None:
    """Delete the tokens whose names begin with a prefix and that have expired."""
    begins = AccessToken.name.startswith(prefix, autoescape=True)
    session.execute(delete_rows(AccessToken).where(begins, AccessToken.expires_at < now))


def mark_used(session: Session, name: str, *, now: datetime, unless_since: datetime) -> None:
    """Store that a token is used now, unless that was stored since `unless_since`."""
    old = or_(AccessToken.used_at.is_(None), AccessToken.used_at < unless_since)
    session.execute(update(AccessToken).where(AccessToken.name == name, old).values(used_at=now))
