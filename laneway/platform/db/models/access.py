"""The table of the tokens that programs use the API with."""

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
