"""The tables of tasks: tasks, attempts, events, marks of events, steps, live workers, leases of the fleet, alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id


class TaskRun(Base):
    """An accepted task: its call, its state and its outcome."""

    __tablename__ = "task_runs"
    __table_args__ = (
        Index("ix_task_runs_queue_state", "queue", "state"),
        Index("ix_task_runs_state_due", "state", "due_at"),
        Index("ix_task_runs_accepted", "accepted_at"),
        Index(
            "ix_task_runs_finished",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index("ix_task_runs_key", "key", "state"),
        Index("ix_task_runs_name_state", "name", "state"),
        Index("ix_task_runs_error_group", "error_group", "state"),
        Index(
            "ix_task_runs_unfinished",
            "seq",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index(
            "ix_task_runs_held",
            "state",
            "due_at",
            sqlite_where=text("state = 'scheduled' AND published_at IS NULL"),
            postgresql_where=text("state = 'scheduled' AND published_at IS NULL"),
        ),
        *(
            Index(
                f"ix_task_runs_batch_{column}",
                "batch_id",
                column,
                sqlite_where=text("batch_id IS NOT NULL"),
                postgresql_where=text("batch_id IS NOT NULL"),
            )
            for column in ("state", "seq")
        ),
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
    """Attempts that `attempts` does not count: snoozed ones, and those before the task was sent again or retried by
    hand. `TaskAttempt.number` counts all attempts."""
    max_retries: Mapped[int]
    tags: Mapped[list[Any]] = mapped_column(default=list)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Options of the submission that its message needs: uniqueness, own number of retries, own time limit."""
    result: Mapped[dict[str, Any] | None]
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    traceback: Mapped[str | None]
    error_group: Mapped[str | None] = mapped_column(String(16))
    """A fingerprint of the error. Tasks that failed the same way have the same group."""
    raw: Mapped[bytes | None]
    """The body of a message that could not be read or run, as the broker had it."""
    worker: Mapped[str | None] = mapped_column(String(255))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    request_id: Mapped[str | None] = mapped_column(String(64))
    accepted_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    """When the wait before the newest start began: the task was accepted, became due, was returned, or sent again."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    trashed_at: Mapped[datetime | None]
    """When a dead letter was discarded. It can be restored until retention deletes it."""
    batch_id: Mapped[str | None] = mapped_column(String(155))
    """The batch of which it is a task."""


class TaskTag(Base):
    """A tag by which a task is found."""

    __tablename__ = "task_tags"
    __table_args__ = (Index("ix_task_tags_tag", "tag", "task_id"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class TaskAttempt(Base):
    """An attempt and its outcome."""

    __tablename__ = "task_attempts"

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str | None] = mapped_column(String(255))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    """completed, retry, snoozed, failed, dead_letter, cancelled, expired or lost; None while it runs."""
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    traceback: Mapped[str | None]
    delay: Mapped[float | None] = mapped_column(Float)
    """Seconds until the next attempt."""


class TaskEvent(Base):
    """An event of a task: an entry of the journal, progress, a log line, or an operator's action."""

    __tablename__ = "task_events"
    __table_args__ = (Index("ix_task_events_task", "task_id", "seq"),)

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(24))
    attempt: Mapped[int | None]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class EventMark(Base):
    """An id of an event that is kept after the event is deleted; see `laneway.platform.db.queries.event_feed`."""

    __tablename__ = "event_marks"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)


class TaskStep(Base):
    """The stored result of a step of a task, or the number of finished items of a loop."""

    __tablename__ = "task_steps"

    task_id: Mapped[str] = mapped_column(ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(155), primary_key=True)
    result: Mapped[Any] = mapped_column(JSON)
    attempt: Mapped[int]
    at: Mapped[datetime]


class JournalCursor(Base):
    """The offset up to which the journal of a queue is recorded, written in the transaction that records the events."""

    __tablename__ = "journal_cursors"

    queue: Mapped[str] = mapped_column(String(255), primary_key=True)
    position: Mapped[str] = mapped_column(String(48))
    gap_until: Mapped[str | None] = mapped_column(String(48))
    """The events up to this offset are missing here, because the database is an older copy; None: none are missing."""
    replaced: Mapped[bool] = mapped_column(default=False, server_default=false())
    """The database or the broker was replaced by another copy, and the two have not been compared since."""


class Worker(Base):
    """A worker, as it last reported. Two workers may have the same name, by mistake: each has a row."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=lambda: uuid4().hex)
    """Made anew at each start of a worker."""
    name: Mapped[str] = mapped_column(String(255), index=True)
    queues: Mapped[list[Any]]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    ended: Mapped[str | None] = mapped_column(String(100))
    """How it ended, in words, if its supervisor saw that."""
    host: Mapped[str] = mapped_column(String(255), default="", server_default="")
    version: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """The version of Laneway that it runs."""
    memory: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes of memory of all its processes."""
    leases: Mapped[int | None]
    """How many messages it holds. None: its broker is not the delivery engine."""
    disk_free: Mapped[float | None] = mapped_column(Float)
    """Free percent of the disk of its `DATA_DIR`. None: the folder does not exist there."""


class FleetLease(Base):
    """Who does a work that one process does for the whole fleet."""

    __tablename__ = "fleet_leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    renewals: Mapped[int] = mapped_column(BigInteger)
    """Counts up at each renewal. A holder whose count stands still is dead."""
    renewed_at: Mapped[datetime | None]
    """By the clock of its holder, for people and reports. None: it is of an older version."""


class Alert(Base):
    """A problem that needs an operator. It is open until `closed_at` is set."""

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
    """When the last notice that it is open was submitted."""
    end_notified_at: Mapped[datetime | None]
    """When the notice that it is over was submitted."""
