"""The tables of schedules and of their firings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class StoredSchedule(Base):
    """A schedule of the application's code, or one that operators made."""

    __tablename__ = "schedules"
    __table_args__ = (Index("ix_schedules_next_at", "next_at"),)

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(16))
    """`code` or `operator`."""
    definition: Mapped[dict[str, Any]]
    decided_until: Mapped[datetime]
    """The due times up to this moment are settled."""
    next_at: Mapped[datetime | None]
    """When the next firing acts; None: there is none."""
    last_due_at: Mapped[datetime | None]
    """The last due time for which a task was sent."""
    problem: Mapped[str | None]
    """Why nothing was sent at the last due time; None: it was sent, or left out on purpose."""
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(String(200))
    changed_at: Mapped[datetime]
    changed_by: Mapped[str | None] = mapped_column(String(200))
    """The operator; None: the application's code."""
    removed_at: Mapped[datetime | None]
    """When the code did not list it any more."""


class ScheduleFiring(Base):
    """What became of one due time. Its key lets a due time fire once, whoever acts and whatever clocks do."""

    __tablename__ = "schedule_firings"
    __table_args__ = (Index("ix_schedule_firings_decided_at", "decided_at"),)

    schedule: Mapped[str] = mapped_column(String(200), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16))
    """`sent`, `skipped`, `missed` or `refused`."""
    task_id: Mapped[str | None] = mapped_column(String(255))
    reason: Mapped[str | None]
    decided_at: Mapped[datetime]
    asked_by: Mapped[str | None] = mapped_column(String(200))
    """Who had the schedule run at once; None: it was due."""
