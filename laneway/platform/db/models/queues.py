"""The tables of the limits that operators set."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Float, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class QueueLimit(Base):
    """The limits of a queue. The broker enforces them; workers set them there again after it lost its data."""

    __tablename__ = "queue_limits"

    queue: Mapped[str] = mapped_column(String(64), primary_key=True)
    rate: Mapped[int | None]
    """Tasks that may start within `per_seconds`; None: no limit."""
    per_seconds: Mapped[float] = mapped_column(Float)
    max_in_flight: Mapped[int | None]
    paused: Mapped[bool]
    max_wait_seconds: Mapped[float | None] = mapped_column(Float)
    """A task that has waited for longer goes before all priorities; None: priorities always go first."""
    updated_at: Mapped[datetime]


class NamedLimitRow(Base):
    """A limit that tasks share, as an operator has set it. The broker enforces it, as it does those of queues."""

    __tablename__ = "named_limits"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    rate: Mapped[int | None]
    """Points that may be taken within `per_seconds`; None: no limit."""
    per_seconds: Mapped[float] = mapped_column(Float)
    burst: Mapped[int]
    max_running: Mapped[int | None]
    """Points of running tasks; None: no limit."""
    updated_at: Mapped[datetime]
