"""The table of destinations: who may receive outbound webhooks, and the secret that signs them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class OutboundDestination(Base):
    """A registered receiver of outbound webhooks, or a group of receivers below one address."""

    __tablename__ = "outbound_destinations"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    url: Mapped[str] = mapped_column(String(500), unique=True)
    """An address without user, query and fragment. If it ends with `/`, the destination covers all addresses below."""
    secret: Mapped[str]
    """The secret that signs, encrypted."""
    previous_secret: Mapped[str | None]
    """The secret before this one, encrypted. It signs as well until `previous_until`."""
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]
