"""The tables of tasks that wait: what each waits for, and the signals that were sent to tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id
from laneway.platform.db.models.sealed import SealedJson


class TaskWait(Base):
    """One thing that a task waits for. The row is deleted when the wait is over, unless it ended by its timeout."""

    __tablename__ = "task_waits"
    __table_args__ = (Index("ix_task_waits_target", "kind", "target"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    """Which wait of the task this is: the same in every attempt."""
    kind: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(320))
    until: Mapped[datetime | None]
    """When the wait is over at the latest."""
    timed_out: Mapped[int | None]
    """How often the task had been retried by hand when the wait timed out: after one more retry it waits anew."""
    created_at: Mapped[datetime]


class TaskSignal(Base):
    """A signal that was sent to a task. `taken_by`: the wait that received it; None: none has."""

    __tablename__ = "task_signals"
    __table_args__ = (Index("uq_task_signals", "task_id", "name", "key", unique=True),)

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    key: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]] = mapped_column(SealedJson)
    taken_by: Mapped[str | None] = mapped_column(String(200))
    received_at: Mapped[datetime]
