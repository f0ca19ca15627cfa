"""The tables. Times are aware and in UTC; ids from outside are strings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Float, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Id = BigInteger().with_variant(Integer, "sqlite")
"""An auto-incremented key; SQLite only counts up for INTEGER."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment; SQLite, which knows no time zones, gets it in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map: ClassVar = {datetime: UtcDateTime, dict[str, Any]: JSON, list[Any]: JSON, str: Text}


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


class JournalPlace(Base):
    """How far the journal of a queue has been recorded: written in one transaction with what was recorded."""

    __tablename__ = "journal_places"

    queue: Mapped[str] = mapped_column(String(255), primary_key=True)
    place: Mapped[str] = mapped_column(String(48))


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


class Conversation(Base):
    """One customer's thread."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    channel: Mapped[str] = mapped_column(String(32))
    customer: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(24))
    follow_ups: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime] = mapped_column(index=True)


class Message(Base):
    """One turn: what the customer, the assistant or an operator said."""

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_conversation", "conversation_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(450), unique=True)
    """Unique per turn: a repeat of the same work stores nothing twice."""
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str]
    in_reply_to: Mapped[str | None] = mapped_column(String(450))
    sources: Mapped[list[Any]] = mapped_column(default=list)
    responder: Mapped[str | None] = mapped_column(String(64))
    duration_ms: Mapped[int | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    task_id: Mapped[str | None] = mapped_column(String(155))
    created_at: Mapped[datetime] = mapped_column(index=True)


class Lead(Base):
    """A person who asked to be contacted."""

    __tablename__ = "leads"
    __table_args__ = (Index("uq_leads_source", "source", "source_id", unique=True),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(32))
    source_id: Mapped[str] = mapped_column(String(200))
    conversation_id: Mapped[str | None] = mapped_column(String(155))
    fields: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class WebhookDelivery(Base):
    """One verified request from a platform, as it came (without secrets)."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("ix_webhook_deliveries_state", "state", "received_at"),)

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    """Derived from source and body: the same request sent again is the same delivery."""
    source: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    """stored, queued or processed"""
    received_at: Mapped[datetime]
    processed_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """One event out of a delivery; each event id of a source once."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index("uq_webhook_events", "source", "event_id", unique=True),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(64))
    event_id: Mapped[str] = mapped_column(String(300))
    kind: Mapped[str] = mapped_column(String(64))
    delivery_id: Mapped[str] = mapped_column(String(155), index=True)
    data: Mapped[dict[str, Any]]
    task_id: Mapped[str | None] = mapped_column(String(155))
    created_at: Mapped[datetime] = mapped_column(index=True)


class Document(Base):
    """A text that replies may cite."""

    __tablename__ = "documents"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    title: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    passage_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Passage(Base):
    """A piece of a document, the unit of search; the full-text index over it is made by the migration."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_document", "document_id", "position"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    position: Mapped[int]
    text: Mapped[str]


class ConversationAnalysis(Base):
    """The newest analysis of one conversation."""

    __tablename__ = "conversation_analyses"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    sentiment: Mapped[float] = mapped_column(Float)
    """-1 (negative) to 1 (positive)"""
    sentiment_label: Mapped[str] = mapped_column(String(16))
    key_phrases: Mapped[list[Any]]
    customer_messages: Mapped[int]
    replies: Mapped[int]
    mean_response_seconds: Mapped[float | None] = mapped_column(Float)
    resolved: Mapped[bool]
    analysed_at: Mapped[datetime]


class Report(Base):
    """A computed report that can be fetched."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_kind", "kind", "created_at"),)

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    kind: Mapped[str] = mapped_column(String(48))
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
