"""The platform's tables, one module per subject."""

from laneway.platform.db.models.access import AccessToken, PersonSession
from laneway.platform.db.models.audit_log import AuditLogEntry, AuditLogHead
from laneway.platform.db.models.base import Base, Id, UtcDateTime
from laneway.platform.db.models.batches import BatchCallback, BatchCheck, TaskBatch
from laneway.platform.db.models.bulk import BulkAction, BulkActionTask
from laneway.platform.db.models.installation import Installation
from laneway.platform.db.models.outbound_destinations import OutboundDestination
from laneway.platform.db.models.outbound_webhooks import OutboundAttempt, OutboundDelivery, OutboundEndpoint
from laneway.platform.db.models.queues import NamedLimitRow, QueueLimit
from laneway.platform.db.models.samples import QueueSample
from laneway.platform.db.models.schedules import ScheduleFiring, StoredSchedule
from laneway.platform.db.models.submissions import MergedSubmission, SubmissionSlot, SupersededTask
from laneway.platform.db.models.task_waits import TaskSignal, TaskWait
from laneway.platform.db.models.tasks import (
    Alert,
    EventMark,
    FleetLease,
    JournalCursor,
    TaskAttempt,
    TaskEvent,
    TaskRun,
    TaskStep,
    TaskTag,
    Worker,
)
from laneway.platform.db.models.workflows import WorkflowMetric, WorkflowRun, WorkflowSignal, WorkflowStepRun

__all__ = [
    "AccessToken",
    "Alert",
    "AuditLogEntry",
    "AuditLogHead",
    "Base",
    "BatchCallback",
    "BatchCheck",
    "BulkAction",
    "BulkActionTask",
    "EventMark",
    "FleetLease",
    "Id",
    "Installation",
    "JournalCursor",
    "MergedSubmission",
    "NamedLimitRow",
    "OutboundAttempt",
    "OutboundDelivery",
    "OutboundDestination",
    "OutboundEndpoint",
    "PersonSession",
    "QueueLimit",
    "QueueSample",
    "ScheduleFiring",
    "StoredSchedule",
    "SubmissionSlot",
    "SupersededTask",
    "TaskAttempt",
    "TaskBatch",
    "TaskEvent",
    "TaskRun",
    "TaskSignal",
    "TaskStep",
    "TaskTag",
    "TaskWait",
    "UtcDateTime",
    "Worker",
    "WorkflowMetric",
    "WorkflowRun",
    "WorkflowSignal",
    "WorkflowStepRun",
]
