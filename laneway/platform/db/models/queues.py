"""The table of queues whose speed an operator has limited."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Float, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class QueueLimit(Base):
    """What an operator wants of a queue; the broker is brought to it, also after it lost its data."""

    __tablename__ = "queue_limits"

    queue: Mapped[str] = mapped_column(String(64), primary_key=True)
    rate: Mapped[int | None]
    """So many starts, at most, within `per_seconds`."""
    per_seconds: Mapped[float] = mapped_column(Float)
    max_in_flight: Mapped[int | None]
    paused: Mapped[bool]
    updated_at: Mapped[datetime]
