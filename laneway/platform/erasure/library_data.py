"""What the library stores of a person: tasks, workflows, batches, webhooks, alerts, sessions, schedules, audit log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from laneway.platform.audit_log.recording import record
from laneway.platform.audit_log.verification import ERASE_CONTENTS
from laneway.platform.db.models import (
    Alert,
    AuditLogEntry,
    BatchCallback,
    MergedSubmission,
    OutboundAttempt,
    OutboundDelivery,
    PersonSession,
    StoredSchedule,
    TaskAttempt,
    TaskBatch,
    TaskEvent,
    TaskRun,
    TaskSignal,
    TaskStep,
    WorkflowRun,
    WorkflowSignal,
    WorkflowStepRun,
)
from laneway.platform.db.queries import audit_log as audit_log_queries
from laneway.platform.erasure.scanning import rows_about
from laneway.platform.erasure.subject import Subject

TASK_TEXTS: Final = (
    *(TaskRun.id, TaskRun.key, TaskRun.payload, TaskRun.tags, TaskRun.options, TaskRun.progress_message),
    *(TaskRun.result, TaskRun.error, TaskRun.traceback, TaskRun.raw),
)
NAMED: Final = 200
"""Audit entries that one entry names whose contents were erased."""


@dataclass(slots=True)
class LibraryData:
    """What was found, by id."""

    tasks: set[str] = field(default_factory=set)
    workflows: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    deliveries: set[str] = field(default_factory=set)
    alerts: set[int] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    schedules: set[str] = field(default_factory=set)
    audit_entries: set[int] = field(default_factory=set)

    @property
    def counts(self) -> dict[str, int]:
        """Kind → number; the audit log's entries stay, without their contents, and are not counted."""
        return {
            "tasks": len(self.tasks),
            "workflows": len(self.workflows),
            "batches": len(self.batches),
            "outbound_webhooks": len(self.deliveries),
            "alerts": len(self.alerts),
            "sessions": len(self.sessions),
            "schedules": len(self.schedules),
        }


def find(session: Session, subject: Subject) -> LibraryData:
    """Find everything about the person."""
    found = LibraryData()
    for columns, key in (
        (TASK_TEXTS, TaskRun.id),
        ((TaskEvent.data,), TaskEvent.task_id),
        ((TaskAttempt.error, TaskAttempt.traceback), TaskAttempt.task_id),
        ((TaskStep.name, TaskStep.result), TaskStep.task_id),
        ((TaskSignal.data, TaskSignal.key), TaskSignal.task_id),
        ((MergedSubmission.id,), MergedSubmission.task_id),
    ):
        found.tasks.update(row[0] for row in rows_about(session, subject, columns, returning=[key]))
    _find_workflows(session, subject, found)
    _find_batches(session, subject, found)
    _find_deliveries(session, subject, found)
    alerts = rows_about(session, subject, (Alert.subject, Alert.message), returning=[Alert.id])
    found.alerts.update(row[0] for row in alerts)
    sessions = rows_about(session, subject, (PersonSession.person,), returning=[PersonSession.digest])
    found.sessions.update(row[0] for row in sessions)
    schedules = rows_about(session, subject, (StoredSchedule.definition,), returning=[StoredSchedule.key])
    found.schedules.update(row[0] for row in schedules)
    contents = (AuditLogEntry.object_id, AuditLogEntry.before, AuditLogEntry.after)
    found.audit_entries.update(row[0] for row in rows_about(session, subject, contents, returning=[AuditLogEntry.seq]))
    for ids in batches(found.tasks | found.workflows | found.batches | found.deliveries):
        found.audit_entries.update(session.scalars(select(AuditLogEntry.seq).where(AuditLogEntry.object_id.in_(ids))))
    return found


def _find_workflows(session: Session, subject: Subject, found: LibraryData) -> None:
    runs, steps = WorkflowRun, WorkflowStepRun
    for columns, key in (
        ((runs.id, runs.input, runs.output, runs.error, runs.agent_id), runs.id),
        ((steps.output, steps.error), steps.run_id),
        ((WorkflowSignal.data, WorkflowSignal.key), WorkflowSignal.run_id),
    ):
        found.workflows.update(row[0] for row in rows_about(session, subject, columns, returning=[key]))
    for ids in batches(found.workflows):
        tasks = select(TaskRun.id).join(steps, TaskRun.id == steps.task_id).where(steps.run_id.in_(ids))
        found.tasks.update(session.scalars(tasks))


def _find_batches(session: Session, subject: Subject, found: LibraryData) -> None:
    """Batches whose own texts are about the person. Their tasks go on without them."""
    for columns, key in (
        ((TaskBatch.id, TaskBatch.description), TaskBatch.id),
        ((BatchCallback.payload, BatchCallback.row), BatchCallback.batch_id),
    ):
        found.batches.update(row[0] for row in rows_about(session, subject, columns, returning=[key]))


def _find_deliveries(session: Session, subject: Subject, found: LibraryData) -> None:
    sent, attempts = OutboundDelivery, OutboundAttempt
    for columns, key in (
        ((sent.id, sent.url, sent.body, sent.error), sent.id),
        ((attempts.answer, attempts.error), attempts.delivery_id),
    ):
        found.deliveries.update(row[0] for row in rows_about(session, subject, columns, returning=[key]))
    for ids in batches(found.tasks):
        found.deliveries.update(session.scalars(select(sent.id).where(sent.id.in_(ids))))


def remove(session: Session, found: LibraryData) -> None:
    """Remove what is left after the tasks: workflows, batches, webhooks, alerts, sessions, schedules."""
    for key, found_ids in (
        (WorkflowRun.id, found.workflows),
        (TaskBatch.id, found.batches),
        (OutboundDelivery.id, found.deliveries),
        (Alert.id, found.alerts),
        (PersonSession.digest, found.sessions),
        (StoredSchedule.key, found.schedules),
    ):
        for ids in batches(found_ids):
            rows = delete(key.class_).where(key.in_(ids))  # pyright: ignore[reportArgumentType] - never an alias here
            session.execute(rows.execution_options(synchronize_session=False))


def erase_audit_contents(session: Session, found: LibraryData) -> None:
    """Erase the contents of the audit log's entries about the person; further entries name them."""
    seqs = sorted(found.audit_entries)
    audit_log_queries.erase_contents(session, seqs)
    for first in range(0, len(seqs), NAMED):
        record(session, ERASE_CONTENTS, ("audit_log", "entries"), after={"entries": seqs[first : first + NAMED]})


def batches(ids: Iterable[Any]) -> Iterator[list[Any]]:
    """The ids in parts that are short enough for one statement."""
    rest = sorted(ids)
    for first in range(0, len(rest), NAMED):
        yield rest[first : first + NAMED]
