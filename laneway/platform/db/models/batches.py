"""The tables of batches: groups of tasks that end together, and what is submitted when they do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id


class TaskBatch(Base):
    """A group of tasks. Its tasks name it in `TaskRun.batch_id`; how many there are in which state is counted there."""

    __tablename__ = "task_batches"
    __table_args__ = (
        Index(
            "ix_task_batches_unfinished",
            "seq",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
    )

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(155), unique=True)
    description: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))
    """Of everything that it was made of. A repeat with the same id must have the same."""
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    """Since when it ends with the last of its tasks. None: it is open, and waits for more tasks."""
    cancelled_at: Mapped[datetime | None]
    died_at: Mapped[datetime | None]
    """When its first task died: ended as failed or as a dead letter."""
    completed_at: Mapped[datetime | None]
    """When all its tasks had ended for the first time."""
    succeeded_at: Mapped[datetime | None]
    """When all its tasks were completed."""
    finished_at: Mapped[datetime | None]
    """When its last task ended. None: it is open, or a task has not ended, perhaps because it was retried."""
    gone_completed: Mapped[int] = mapped_column(default=0)
    gone_failed: Mapped[int] = mapped_column(default=0)
    gone_cancelled: Mapped[int] = mapped_column(default=0)
    """How many of its tasks were deleted after they ended so; expired ones count as cancelled."""


class BatchCallback(Base):
    """The task that is submitted at an event of a batch: the columns of its row."""

    __tablename__ = "batch_callbacks"

    batch_id: Mapped[str] = mapped_column(ForeignKey("task_batches.id", ondelete="CASCADE"), primary_key=True)
    event: Mapped[str] = mapped_column(String(16), primary_key=True)
    """`success`, `complete` or `death`."""
    name: Mapped[str] = mapped_column(String(155))
    payload: Mapped[dict[str, Any]]
    row: Mapped[dict[str, Any]]
    """The other columns."""


class BatchCheck(Base):
    """A batch at which a relay has to look: one of its tasks has ended, was retried, or was deleted."""

    __tablename__ = "batch_checks"
    __table_args__ = (Index("ix_batch_checks_batch_id", "batch_id"),)

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    batch_id: Mapped[str] = mapped_column(String(155))
    has_died: Mapped[bool] = mapped_column(default=False)
    """Whether a task has died."""
