"""The tables, a module for each domain."""

from app.db.models.base import Base, Id, UtcDateTime
from app.db.models.conversations import Conversation, ConversationAnalysis, Document, Lead, Message, Passage, Report
from app.db.models.tasks import Alert, JournalPlace, TaskAttempt, TaskEvent, TaskRun, TaskStep, TaskTag, Worker
from app.db.models.webhooks import WebhookDelivery, WebhookEvent

__all__ = [
    "Alert",
    "Base",
    "Conversation",
    "ConversationAnalysis",
    "Document",
    "Id",
    "JournalPlace",
    "Lead",
    "Message",
    "Passage",
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
]
