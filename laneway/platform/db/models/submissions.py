"""The tables of submissions that share a key: slots, merged submissions, superseded tasks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class SubmissionSlot(Base):
    """What all submissions with one rule, task name and key have in common. A submission locks it, then decides."""

    __tablename__ = "submission_slots"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """A digest of rule, name and key."""
    task_id: Mapped[str | None] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), index=True)
    """The last task that was accepted. None: its first submission is not committed yet."""
    since: Mapped[datetime]
    """When that task was accepted."""
    merged: Mapped[int] = mapped_column(default=0)
    """How many later submissions that task stands for."""


class MergedSubmission(Base):
    """An id that was given with a submission for which another task stands. A repeat returns that task."""

    __tablename__ = "merged_submissions"

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), index=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    """Of the task's name and of the payload that was submitted with this id."""


class SupersededTask(Base):
    """A task that a later submission of its key has replaced, and that is still to be stopped."""

    __tablename__ = "superseded_tasks"

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    by: Mapped[str] = mapped_column(String(155))
    """The id of the later submission."""
    only_waiting: Mapped[bool]
    """Whether it goes on if it has started meanwhile."""
