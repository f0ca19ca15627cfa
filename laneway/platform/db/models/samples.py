"""The table of what the queues looked like, minute by minute."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id


class QueueSample(Base):
    """What one queue looked like at the end of a minute, and how much went through it within that minute."""

    __tablename__ = "queue_samples"
    __table_args__ = (Index("uq_queue_samples", "minute", "queue", unique=True),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    queue: Mapped[str] = mapped_column(String(64))
    minute: Mapped[datetime]
    """The end of the minute."""
    waiting: Mapped[int]
    running: Mapped[int]
    scheduled: Mapped[int]
    held: Mapped[int]
    dead: Mapped[int]
    oldest_seconds: Mapped[int | None]
    workers: Mapped[int]
    paused: Mapped[bool]
    accepted: Mapped[int]
    """Tasks that were accepted within the minute."""
    completed: Mapped[int]
    failed: Mapped[int]
    """Tasks that failed for good within the minute, dead letters included."""
    canary_ms: Mapped[int | None]
    """How long the last canary took to its end, or how long one has not ended; None: there is none."""
