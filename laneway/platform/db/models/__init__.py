"""The platform's tables, one module per subject."""

from laneway.platform.db.models.access import AccessToken, PersonSession
from laneway.platform.db.models.audit_log import AuditLogEntry, AuditLogHead
from laneway.platform.db.models.base import Base, Id, UtcDateTime
from laneway.platform.db.models.installation import Installation
from laneway.platform.db.models.outbound_destinations import OutboundDestination
from laneway.platform.db.models.outbound_webhooks import OutboundAttempt, OutboundDelivery, OutboundEndpoint
from laneway.platform.db.models.queues import QueueLimit
from laneway.platform.db.models.samples import QueueSample
from laneway.platform.db.models.schedules import ScheduleFiring, StoredSchedule
from laneway.platform.db.models.submissions import MergedSubmission, SubmissionSlot, SupersededTask
from laneway.platform.db.models.tasks import (
    Alert,
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
    "FleetLease",
    "Id",
    "Installation",
    "JournalCursor",
    "MergedSubmission",
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
    "TaskEvent",
    "TaskRun",
    "TaskStep",
    "TaskTag",
    "UtcDateTime",
    "Worker",
    "WorkflowMetric",
    "WorkflowRun",
    "WorkflowSignal",
    "WorkflowStepRun",
]
