"""The tables of workflows: runs, visits of their steps, signals, and metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id
from laneway.platform.db.models.sealed import SealedJson


class WorkflowRun(Base):
    """A run of a workflow, with the definition at the time of its acceptance."""

    __tablename__ = "workflow_runs"
    __table_args__ = (
        Index("ix_workflow_runs_state", "state", "seq"),
        Index("ix_workflow_runs_type", "type", "seq"),
        Index("ix_workflow_runs_accepted", "accepted_at"),
        Index("ix_workflow_runs_finished", "finished_at"),
    )

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(96), unique=True)
    type: Mapped[str] = mapped_column(String(40))
    version: Mapped[int]
    definition: Mapped[dict[str, Any]]
    input: Mapped[dict[str, Any]] = mapped_column(SealedJson)
    fingerprint: Mapped[str] = mapped_column(String(64))
    agent_id: Mapped[str | None] = mapped_column(String(200))
    retry_of: Mapped[str | None] = mapped_column(String(96))
    """The run that this one repeats from its beginning."""
    state: Mapped[str] = mapped_column(String(16))
    output: Mapped[dict[str, Any] | None] = mapped_column(SealedJson)
    error: Mapped[str | None]
    accepted_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    parent_id: Mapped[str | None] = mapped_column(String(96))
    parent_step: Mapped[str | None] = mapped_column(String(40))
    """The run and its step that started this one."""
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(String(200))
    """Who paused it, as the audit log names callers."""


class WorkflowStepRun(Base):
    """A visit of a step, that is, one run of it: its task and its outcome. A loop makes further visits."""

    __tablename__ = "workflow_steps"
    __table_args__ = (Index("ix_workflow_steps_task", "task_id"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(String(40), primary_key=True)
    visit: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    superseded_by: Mapped[str | None] = mapped_column(String(40))
    """The step whose loop led back, so that this visit does not count any more; None: it counts."""
    task_id: Mapped[str | None] = mapped_column(String(155))
    retries_seen: Mapped[int] = mapped_column(default=0)
    """How often its task had been retried by hand when the visit ended: a higher number means a new retry."""
    output: Mapped[dict[str, Any] | None] = mapped_column(SealedJson)
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    """When the timer ends, or when the wait for a signal times out."""


class WorkflowSignal(Base):
    """A signal that was sent to a run. `visit`: the number of the visit that received it; None: none has."""

    __tablename__ = "workflow_signals"
    __table_args__ = (Index("uq_workflow_signals", "run_id", "name", "key", unique=True),)

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("workflow_runs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]] = mapped_column(SealedJson)
    visit: Mapped[int | None]
    received_at: Mapped[datetime]


class WorkflowMetric(Base):
    """A metric of a run: a whole number. Its unit is part of its name."""

    __tablename__ = "workflow_metrics"
    __table_args__ = (Index("ix_workflow_metrics_name", "name", "at"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]
