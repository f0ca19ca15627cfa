"""The table of destinations: who may receive outbound webhooks, and the secret that signs them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
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
    events: Mapped[dict[str, Any] | None]
    """Which events of tasks are sent to it, if `events_after` is set."""
    events_after: Mapped[int | None] = mapped_column(BigInteger)
    """The id of the last event that was looked at for it. None: it gets no events of tasks."""
