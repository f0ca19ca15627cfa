"""The tables of actions on many tasks that can be undone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class BulkAction(Base):
    """An action on many tasks. It may consist of several calls."""

    __tablename__ = "bulk_actions"
    __table_args__ = (Index("ix_bulk_actions_at", "at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`cancel`, `reprioritise` or `replay`."""
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(200))
    tasks: Mapped[int]
    """How many tasks it has changed."""
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None] = mapped_column(String(200))


class BulkActionTask(Base):
    """What an undo of the action has to do with one task. The undo deletes the row."""

    __tablename__ = "bulk_action_tasks"
    __table_args__ = (Index("ix_bulk_action_tasks_task", "task_id"),)

    action_id: Mapped[str] = mapped_column(ForeignKey("bulk_actions.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    before: Mapped[dict[str, Any]]
    """What the action has changed, as it was."""
