"""The tables of tasks: what was accepted, what became of it, who works, what is wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id


class TaskRun(Base):
    """One accepted task and what became of it."""

    __tablename__ = "task_runs"
    __table_args__ = (
        Index("ix_task_runs_queue_state", "queue", "state"),
        Index("ix_task_runs_state_due", "state", "due_at"),
        Index("ix_task_runs_accepted", "accepted_at"),
        Index("ix_task_runs_finished", "finished_at"),
        Index("ix_task_runs_key", "key", "state"),
        Index("ix_task_runs_name_state", "name", "state"),
        Index("ix_task_runs_error_group", "error_group", "state"),
    )

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(155), unique=True)
    name: Mapped[str] = mapped_column(String(155))
    queue: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    key: Mapped[str | None] = mapped_column(String(200))
    payload: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    progress: Mapped[int] = mapped_column(default=0)
    progress_message: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_before: Mapped[int] = mapped_column(default=0)
    """Attempts of earlier runs: a retry by hand counts its own anew, and goes on in the numbering."""
    max_retries: Mapped[int]
    tags: Mapped[list[Any]] = mapped_column(default=list)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What its message needs when it is sent again: uniqueness."""
    result: Mapped[dict[str, Any] | None]
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    traceback: Mapped[str | None]
    error_group: Mapped[str | None] = mapped_column(String(16))
    """Fingerprint of the error's class and place: what failed the same way is one group."""
    raw: Mapped[bytes | None]
    """The record of a message that could not be read or run, as the broker had it."""
    worker: Mapped[str | None] = mapped_column(String(255))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    request_id: Mapped[str | None] = mapped_column(String(64))
    accepted_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    """Since when it could have been started, before its last start: accepted, due, given back or sent again."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    trashed_at: Mapped[datetime | None]
    """When a dead letter was discarded; it can be restored until it is swept."""


class TaskTag(Base):
    """One tag of one task."""

    __tablename__ = "task_tags"
    __table_args__ = (Index("ix_task_tags_tag", "tag", "task_id"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class TaskAttempt(Base):
    """One attempt at a task and how it ended."""

    __tablename__ = "task_attempts"

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str | None] = mapped_column(String(255))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    """completed, retry, snoozed, failed, dead_letter, cancelled, expired or lost; none while it runs."""
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    traceback: Mapped[str | None]
    delay: Mapped[float | None] = mapped_column(Float)
    """Seconds until the next one."""


class TaskEvent(Base):
    """Something that happened to a task, in order: the journal, progress, its log lines, what operators did."""

    __tablename__ = "task_events"
    __table_args__ = (Index("ix_task_events_task", "task_id", "seq"),)

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(24))
    attempt: Mapped[int | None]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class TaskStep(Base):
    """The kept result of one step of a task, or how far a loop of it has come."""

    __tablename__ = "task_steps"

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(155), primary_key=True)
    result: Mapped[Any] = mapped_column(JSON)
    attempt: Mapped[int]
    at: Mapped[datetime]


class JournalCursor(Base):
    """How far the journal of a queue has been recorded: written in one transaction with what was recorded."""

    __tablename__ = "journal_cursors"

    queue: Mapped[str] = mapped_column(String(255), primary_key=True)
    position: Mapped[str] = mapped_column(String(48))


class Worker(Base):
    """A live worker process, as it last reported."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    queues: Mapped[list[Any]]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)


class Alert(Base):
    """Something an operator should look at; open until `closed_at` is set."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "uq_alerts_open",
            "kind",
            "subject",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(200))
    message: Mapped[str]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    notified_at: Mapped[datetime | None]
    """When somebody was written to about it, or was to be."""
