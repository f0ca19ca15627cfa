"""The tables of access: the tokens of programs, and the sessions of people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class AccessToken(Base):
    """One token. The token itself is stored nowhere: only its digest."""

    __tablename__ = "access_tokens"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the token, in hexadecimal."""
    old_digest: Mapped[str | None] = mapped_column(String(64))
    """Of the token before the last rotation."""
    old_until: Mapped[datetime | None]
    """Until then the token before the last rotation is accepted, too."""
    scopes: Mapped[list[Any]]
    queues: Mapped[list[Any] | None]
    """None: all."""
    names: Mapped[list[Any] | None]
    """Of tasks. None: all."""
    tenant: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(255))
    expires_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """When it was last used, to a few minutes."""

    __table_args__ = (
        Index("uq_access_tokens_digest", "digest", unique=True),
        Index("ix_access_tokens_old_digest", "old_digest"),
    )


class PersonSession(Base):
    """One login of a person, until it ends."""

    __tablename__ = "person_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the session's id, in hexadecimal (`logins.digest_of`). The id itself is in the cookie only."""
    person: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[datetime]
    """After `confirmed_at`: the id was replaced, and counts until then."""
    confirmed_at: Mapped[datetime]
    """When the identity provider has last said who the person is."""

    @property
    def is_replaced(self) -> bool:
        """Whether the session has another id now."""
        return self.began_at > self.confirmed_at

    def replace(self, *, until: datetime, now: datetime) -> None:
        """Let the id count until then, for what the browser had sent before."""
        self.began_at, self.confirmed_at = until, now

    __table_args__ = (Index("ix_person_sessions_person", "person"), Index("ix_person_sessions_began_at", "began_at"))
