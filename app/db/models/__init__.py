"""The tables, a module for each domain."""

from app.db.models.base import Base, Id, UtcDateTime
from app.db.models.callbacks import CallbackAttempt, CallbackDelivery, CallbackEndpoint
from app.db.models.conversations import Conversation, ConversationAnalysis, Message, Report
from app.db.models.crm import CrmRecord, Lead
from app.db.models.documents import Document, Passage
from app.db.models.queues import QueueLimit
from app.db.models.tasks import Alert, JournalPlace, TaskAttempt, TaskEvent, TaskRun, TaskStep, TaskTag, Worker
from app.db.models.webhooks import WebhookDelivery, WebhookEvent
from app.db.models.workflows import WorkflowMetric, WorkflowRun, WorkflowSignal, WorkflowStepRun

__all__ = [
    "Alert",
    "Base",
    "CallbackAttempt",
    "CallbackDelivery",
    "CallbackEndpoint",
    "Conversation",
    "ConversationAnalysis",
    "CrmRecord",
    "Document",
    "Id",
    "JournalPlace",
    "Lead",
    "Message",
    "Passage",
    "QueueLimit",
    "Report",
    "TaskAttempt",
    "TaskEvent",
    "TaskRun",
    "TaskStep",
    "TaskTag",
    "UtcDateTime",
    "WebhookDelivery",
    "WebhookEvent",
    "Worker",
    "WorkflowMetric",
    "WorkflowRun",
    "WorkflowSignal",
    "WorkflowStepRun",
]
